"""What locks and their kin for processes promise: on treadle's and on the standard library's."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from treadle.sync import shared

NAMES = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier")
fork = multiprocessing.get_context("fork")
_heap = fork.Barrier(1)  # the standard library's barriers share a file that stays open: not a leak of a test

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(
    params=[
        pytest.param(shared, id="treadle"),
        pytest.param(SimpleNamespace(**{name: getattr(fork, name) for name in NAMES}), id="stdlib"),
    ]
)
def impl(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def child(forked: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Runs a function in a forked process; all must end well."""
    children = []

    def start(function: Callable[..., object], *args: object) -> Any:
        children.append(forked(function, *args))
        return children[-1]

    yield start
    for process in children:
        process.join(20)
        assert process.exitcode == 0


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock_excludes_processes(impl: Any, child: Callable[..., Any], kind: str) -> None:
    lock, ready, taken = getattr(impl, kind)(), impl.Event(), impl.Semaphore(0)

    def other() -> None:
        assert not lock.acquire(False)
        assert not lock.acquire(True, 0.01)
        assert not lock.acquire(timeout=-1)
        ready.set()
        with lock:
            taken.release()

    with lock:
        child(other)
        assert ready.wait(20)
        assert not taken.acquire(False)
    assert taken.acquire(timeout=20)


def test_a_lock_may_be_released_by_anybody(impl: Any, child: Callable[..., Any]) -> None:
    lock = impl.Lock()
    lock.acquire()
    child(lock.release).join()
    assert lock.acquire(timeout=20)
    lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()


def test_an_rlock_counts_and_belongs_to_its_owner(impl: Any, child: Callable[..., Any]) -> None:
    lock = impl.RLock()

    def other() -> None:
        with pytest.raises(AssertionError):
            lock.release()

    assert lock.acquire()
    assert lock.acquire()
    child(other).join()
    lock.release()
    lock.release()
    with pytest.raises(AssertionError, match="not owned"):
        lock.release()


def test_what_locks_say_of_themselves(impl: Any, child: Callable[..., Any]) -> None:
    lock, rlock, ready, over = impl.Lock(), impl.RLock(), impl.Event(), impl.Event()
    assert repr(lock) == "<Lock(owner=None)>"
    assert repr(rlock) == "<RLock(None, 0)>"
    with lock, rlock, rlock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert repr(rlock) == "<RLock(MainProcess, 2)>"
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend([repr(lock), repr(rlock)]))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]

    def other() -> None:
        with lock, rlock:
            ready.set()
            over.wait(20)

    child(other)
    assert ready.wait(20)
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
    assert repr(rlock) == "<RLock(SomeOtherProcess, nonzero)>"
    over.set()


def test_semaphores_count(impl: Any) -> None:
    semaphore, bounded = impl.Semaphore(1), impl.BoundedSemaphore(1)
    for each in (semaphore, bounded):
        with each:
            assert each.get_value() == 0
            assert not each.acquire(False)
            assert not each.acquire(True, 0.01)
        assert each.get_value() == 1
    semaphore.release()
    assert semaphore.get_value() == 2
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()
    assert repr(semaphore) == "<Semaphore(value=2)>"
    assert repr(bounded) == "<BoundedSemaphore(value=1, maxvalue=1)>"
    with pytest.raises((ValueError, OSError)):
        impl.Semaphore(-1)


def test_a_semaphore_carries_signals(impl: Any, child: Callable[..., Any]) -> None:
    to, back = impl.Semaphore(0), impl.Semaphore(0)

    def other() -> None:
        for _ in range(200):
            to.acquire()
            back.release()

    child(other)
    for _ in range(200):
        to.release()
        assert back.acquire(timeout=20)
    assert to.get_value() == back.get_value() == 0


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_conditions_wake_processes(impl: Any, child: Callable[..., Any], kind: str) -> None:
    condition, asleep, awake = impl.Condition(getattr(impl, kind)()), impl.Semaphore(0), impl.Semaphore(0)

    def other() -> None:
        with condition:
            asleep.release()
            assert condition.wait(20)
            awake.release()

    for _ in range(4):
        child(other)
    for _ in range(4):
        assert asleep.acquire(timeout=20)
    with condition:
        condition.notify()
    assert awake.acquire(timeout=20)
    assert not awake.acquire(timeout=0.05)
    with condition:
        condition.notify_all()
    for _ in range(3):
        assert awake.acquire(timeout=20)


def test_a_condition_needs_its_lock(impl: Any) -> None:
    condition = impl.Condition()
    for act in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            act()
    with condition:
        began = time.monotonic()
        assert not condition.wait(0.05)
        assert time.monotonic() - began >= 0.049
        assert not condition.wait_for(lambda: False, 0.05)
        assert condition.wait_for(lambda: 7) == 7


def test_a_condition_keeps_the_depth_of_an_rlock(impl: Any, child: Callable[..., Any]) -> None:
    condition = impl.Condition()

    def other() -> None:
        with condition:
            condition.notify()

    with condition, condition:
        child(other)
        assert condition.wait(20)
        condition.release()
        condition.acquire()
    with pytest.raises(AssertionError):
        condition.release()


def test_events(impl: Any, child: Callable[..., Any]) -> None:
    event, seen = impl.Event(), impl.Semaphore(0)

    def other() -> None:
        assert event.wait(20)
        seen.release()

    assert not event.is_set()
    assert not event.wait(0.01)
    for _ in range(3):
        child(other)
    assert not seen.acquire(timeout=0.05)
    event.set()
    for _ in range(3):
        assert seen.acquire(timeout=20)
    assert event.is_set()
    assert event.wait(0)
    assert repr(event).endswith(" set>")
    event.clear()
    assert not event.is_set()
    assert repr(event).endswith(" unset>")


def test_barriers(impl: Any, child: Callable[..., Any]) -> None:
    called, numbers, rounds = impl.Semaphore(0), impl.Semaphore(0), 5
    barrier = impl.Barrier(3, action=called.release)

    def other() -> None:
        for _ in range(rounds):
            if barrier.wait(20) == 0:
                numbers.release()

    child(other)
    child(other)
    for i in range(rounds):
        if barrier.wait(20) == 0:
            numbers.release()
        assert called.get_value() >= i + 1
    assert barrier.parties == 3
    for _ in range(rounds):
        assert numbers.acquire(timeout=20)
    assert called.get_value() == rounds
    assert not numbers.acquire(False)


def test_barriers_break_and_are_reset(impl: Any, child: Callable[..., Any]) -> None:
    barrier = impl.Barrier(2)

    def other(timeout: float) -> None:
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(timeout)

    child(other, 0.05).join()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    for end in (barrier.abort, barrier.reset):
        barrier.reset()
        assert not barrier.broken
        process = child(other, 20)
        while barrier.n_waiting == 0:
            time.sleep(0.001)
        end()
        process.join()
    barrier.reset()
    assert barrier.n_waiting == 0


def test_an_action_that_fails_breaks_the_barrier(impl: Any) -> None:
    def fail() -> None:
        raise OSError("no")

    barrier = impl.Barrier(1, fail)
    with pytest.raises(OSError, match="no"):
        barrier.wait()
    assert barrier.broken


@pytest.mark.parametrize("name", NAMES)
def test_they_may_be_extended_and_referred_to_weakly(impl: Any, name: str) -> None:
    base = type(getattr(impl, name)(*((1,) if name == "Barrier" else ())))
    extended = type("Extended", (base,), {"more": 7})
    arguments = {"ctx": fork, **({"parties": 1} if name == "Barrier" else {})}
    this = extended(**arguments)
    this.attribute = 1
    reference = weakref.ref(this)
    assert (reference() is this, this.more, this.attribute) == (True, 7, 1)
    del this
    assert reference() is None


@pytest.mark.filterwarnings("ignore:Lock .* is held by a thread that has ended")  # it is: so this one waits
def test_ctrl_c_ends_each_wait(impl: Any) -> None:
    """The waits of a thread that gets a signal are over at once, with the handler's exception."""
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    lock, condition, barrier = impl.Lock(), impl.Condition(), impl.Barrier(2)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with condition:
            for wait in (lock.acquire, impl.Semaphore(0).acquire, condition.wait, impl.Event().wait, barrier.wait):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                began = time.monotonic()
                with pytest.raises(KeyboardInterrupt):
                    wait()
                assert time.monotonic() - began < 5
    finally:
        signal.signal(signal.SIGALRM, before)
    lock.release()
    assert os.getpid()
