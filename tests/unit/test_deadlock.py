"""A circle of threads that wait for each other raises in one of them; a legal program raises nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading as plain
import time
import warnings

import pytest

from treadle import threading
from treadle.errors import DeadlockError, DeadlockWarning, OwnerDied

pytestmark = pytest.mark.timeout(60)
SOON = 0.2  # seconds from the closing of a circle to the exception: the promise


def ring(n: int, kind=threading.Lock) -> tuple[list[BaseException | None], float]:
    """n threads, each holding one lock and wanting the next.  What each raised, and how long the circle lasted."""
    locks = [kind(name=f"lock{i}") for i in range(n)]
    all_hold = plain.Barrier(n)
    closed: list[float] = []
    raised: list[float] = []

    def work(i: int) -> None:
        with locks[i]:
            all_hold.wait(20)
            closed.append(time.monotonic())
            try:
                with locks[(i + 1) % n]:
                    pass
            except DeadlockError:
                raised.append(time.monotonic())
                raise

    threads = [threading.Thread(target=work, args=(i,), name=f"T{i}") for i in range(n)]
    for thread in threads:
        thread.start()
    errors = [thread.exception(30) for thread in threads]
    return errors, raised[0] - max(closed)


@pytest.fixture(autouse=True)
def _quiet():
    before, threading.excepthook = threading.excepthook, lambda args: None
    yield
    threading.excepthook = before


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_ring_raises_in_one_thread(n: int, kind) -> None:
    best = 10.0
    for _ in range(5):
        errors, seconds = ring(n, kind)
        [error] = [error for error in errors if error is not None]
        assert isinstance(error, DeadlockError)
        assert isinstance(error, RuntimeError)
        assert len(error.cycle) == n
        best = min(best, seconds)
        if best < SOON:
            break
    assert best < SOON, "of five, so that a stalled machine does not count"


def test_the_story() -> None:
    errors, _ = ring(2)
    [error] = [error for error in errors if error is not None]
    text = str(error)
    for part in ("thread 'T0'", "thread 'T1'", "Lock 'lock0'", "Lock 'lock1'", "holds", "waits for", "since", "at  "):
        assert part in text
    assert text.count(f"made at {__file__}") == 4
    assert text.count(" in ring.<locals>.work") == 2


def test_a_lock_taken_twice() -> None:
    lock = threading.Lock(name="mine")
    with lock:
        begin = time.monotonic()
        with pytest.raises(DeadlockError, match="which it holds itself"), lock:
            pass
        assert time.monotonic() - begin < SOON
        assert lock.locked()
    assert not lock.locked()


def test_a_join_of_one_that_waits_for_my_lock() -> None:
    lock = threading.Lock(name="needed")
    with lock:
        thread = threading.Thread(target=lambda: lock.acquire() and lock.release(), name="joined")
        thread.start()
        with pytest.raises(DeadlockError, match=r"the end of thread 'joined' \(join\)"):
            while True:  # either of the two may be the one that gives up; if it is the other one, there is no circle
                thread.join()
                if thread.exception(0):
                    raise thread.exception(0)
                break
    thread.join()


def test_two_threads_that_join_each_other() -> None:
    threads: list[threading.Thread] = []
    go = plain.Event()

    def join(i: int) -> None:
        go.wait(10)
        threads[i].join()

    threads += [threading.Thread(target=join, args=(1 - i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    go.set()
    errors = [thread.exception(20) for thread in threads]
    assert sorted(type(error).__name__ for error in errors) == ["DeadlockError", "NoneType"]


def test_a_bare_acquire_warns_once_and_waits() -> None:
    lock = threading.Lock(name="bare")
    lock.acquire()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threading.Timer(0.5, lock.release).start()
        assert lock.acquire()
    assert [warning.category for warning in caught] == [DeadlockWarning]
    assert "bare acquire()" in str(caught[0].message)
    lock.release()


def test_a_wait_with_a_limit_is_no_deadlock() -> None:
    lock = threading.Lock()
    with lock:
        assert lock.acquire(timeout=0.25) is False


def test_an_owner_that_ended() -> None:
    lock = threading.RLock(name="left")
    plain_thread = plain.Thread(target=lock.acquire)
    plain_thread.start()
    plain_thread.join()
    with pytest.raises(OwnerDied, match="left"):
        lock.acquire()


def test_after_a_deadlock_in_a_condition_the_error_survives() -> None:
    outer, condition = threading.Lock(name="outer"), threading.Condition(threading.Lock(name="inner"))
    waits, errors = plain.Event(), []

    def first() -> None:
        with outer, condition:
            waits.set()
            condition.wait()  # takes `inner` again while it holds `outer`

    def second() -> None:
        waits.wait(10)
        with condition:
            condition.notify()
            with outer:
                pass

    threads = [threading.Thread(target=f) for f in (first, second)]
    for thread in threads:
        thread.start()
    errors = [thread.exception(20) for thread in threads]
    assert sorted(type(error).__name__ for error in errors) == ["DeadlockError", "NoneType"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("raise", "DeadlockError"), ("warn", "DeadlockWarning"), ("off", "")]
)  # fmt: skip
def test_the_environment_variable(mode: str, expected: str) -> None:
    script = textwrap.dedent("""
        import os, threading as plain
        from treadle import threading
        plain.Timer(0.7, os._exit, [7]).start()
        lock = threading.Lock()
        with lock:
            with lock:
                pass
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "TREADLE_DEADLOCK": mode}
    )
    assert done.returncode == (1 if mode == "raise" else 7) or "DeadlockError" in done.stderr
    assert (expected in done.stderr) if expected else not done.stderr


def legal_program(seed: int) -> None:
    """Threads that take locks in one order, with everything else that the primitives offer in between."""
    order = random.Random(seed)
    locks = [order.choice([threading.Lock, threading.RLock])() for _ in range(order.randint(2, 5))]
    condition, event = threading.Condition(order.choice([threading.Lock, threading.RLock])()), threading.Event()
    semaphore = threading.Semaphore(order.randint(1, 3))
    plans = [
        [order.sample(range(len(locks)), order.randint(1, len(locks))) for _ in range(order.randint(1, 4))]
        for _ in range(order.randint(2, 4))
    ]
    left = [len(plans)]

    def work(plan: list[list[int]]) -> None:
        for some in plan:
            held = [locks[i] for i in sorted(some)]
            for lock in held:
                lock.acquire() if order.random() < 0.2 else lock.__enter__()
            with semaphore:
                pass
            for lock in reversed(held):
                lock.release()
        with condition:
            left[0] -= 1
            condition.notify_all()
            condition.wait_for(lambda: left[0] == 0)
        event.set()

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    assert event.wait(30)
    for thread in threads:
        thread.join(30)
        assert thread.exception(0) is None


@pytest.mark.parametrize("many", [300, pytest.param(10_000, marks=[pytest.mark.heavy, pytest.mark.timeout(900)])])
def test_legal_programs_raise_nothing(many: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(many):
            legal_program(seed)


def test_a_notified_thread_wakes_though_its_notifier_sleeps() -> None:
    """The wake-up that a notifier owes is paid before it waits for something itself, not only at the release."""
    condition, woken, waits = threading.Condition(), threading.Event(), plain.Event()

    def wait() -> None:
        with condition:
            waits.set()
            condition.wait()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    waits.wait(10)
    with condition:
        condition.notify()
        begin = time.monotonic()
        while not [w for w in diagnose_waits() if w.tid == thread.native_id and w.kind == "rlock"]:
            assert time.monotonic() - begin < 10
            woken.wait(0.01)
    thread.join(10)
    assert not thread.is_alive()


def diagnose_waits():
    from treadle import diagnose

    return diagnose.waits()
