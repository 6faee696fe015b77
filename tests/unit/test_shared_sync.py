"""Shared locks and their kin: how they travel, what becomes of them when owners end, and what they leave behind."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle import diagnose
from treadle._native import _core
from treadle.errors import DeadlockError, LockRecoveredWarning, OwnerDied, SharedObjectGone
from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")

SCRIPT = Path(__file__).with_name("shared_sync_work.py")
RECOVERY = 0.2  # seconds
fork = multiprocessing.get_context("fork")
MAKERS: list[Any] = [Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, lambda: Barrier(100)]


def killed_with(forked: Callable[..., Any], *held: Any) -> None:
    """A process takes them all, and is killed -9."""
    ready = Event()

    def hold() -> None:
        for each in held:
            each.acquire()
        ready.set()
        threading.Event().wait()

    process = forked(hold)
    assert ready.wait(20)
    process.kill()
    process.join()


def slots() -> int:
    _core.arena_sweep(True)
    return _core.arena_used()[0]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_way_under_every_start_method(method: str) -> None:
    """Inherited, sent after it was made, to grandchildren, from child to child; and deadlocks across processes."""
    environment = {name: value for name, value in os.environ.items() if name != "TREADLE_BOARD"}
    command = [sys.executable, str(SCRIPT), method]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=140, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


# -- travelling


@pytest.mark.parametrize("maker", MAKERS)
def test_ten_thousand_leave_nothing(maker: Any) -> None:
    before = slots()
    high = 0
    for i in range(10_000):
        this = maker()
        if hasattr(this, "acquire"):
            this.acquire()
            this.release()
        high = max(high, _core.arena_used()[0]) if i % 1000 == 0 else high
    assert high <= before + 10  # the barrier of 100 has four slots more
    del this
    assert slots() == before


@pytest.mark.parametrize("maker", MAKERS)
def test_ten_thousand_pickles_leave_nothing(maker: Any) -> None:
    before = slots()
    this = maker()
    for _ in range(3_000):
        this = pickle.loads(pickle.dumps(this))
    del this
    assert slots() == before


def test_a_pickle_keeps_it_alive_until_memory_is_short() -> None:
    before = slots()
    sent = pickle.dumps(Lock(name="on its way"))
    assert pickle.loads(sent).name == "on its way"
    with pytest.raises(SharedObjectGone, match="last holder dropped it"):
        pickle.loads(sent)
    assert isinstance(SharedObjectGone(), FileNotFoundError)  # what the standard library raises
    for _ in range(100):
        pickle.dumps(Lock())  # lost on their way
    assert slots() == before


def test_more_than_there_is_room_for() -> None:
    """An exception, and all is well again when some are gone.  In a process of its own: it takes all slots."""
    script = (
        "from treadle.sync.shared import Lock\n"
        "locks = []\n"
        "try:\n"
        "    while True: locks.append(Lock())\n"
        "except OSError as error: print(len(locks), error)\n"
        "del locks[:10]\n"
        "with Lock(): print('fine')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TREADLE_BOARD"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("32767 too many objects"), ran.stdout
    assert ran.stdout.endswith("fine\n")


class Named(Lock):
    """A subclass with arguments and attributes of its own."""

    def __init__(self, label: str) -> None:
        super().__init__(name=label)
        self.label = label


def test_subclasses_and_copies() -> None:
    this = Named("mine")
    other = pickle.loads(pickle.dumps(this))
    assert (type(other), other.label, other.name) == (Named, "mine", "mine")
    with this:
        assert not other.acquire(False)
        assert not copy.copy(this).acquire(False)
    condition = Condition(Lock())
    twin, lock = pickle.loads(pickle.dumps((condition, condition._lock)))
    assert twin._lock is lock
    with condition._lock:
        assert not lock.acquire(False)


def test_what_was_not_made_says_so() -> None:
    for kind in (Lock, RLock, Semaphore):
        with pytest.raises(RuntimeError, match="__init__"):
            kind.__new__(kind).acquire()
    with pytest.raises(TypeError, match="several processes"):
        Condition(threading.Lock())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'warn', 'raise' or 'ignore'"):
        Lock(on_owner_death="shrug")
    with pytest.raises(ValueError, match="parties"):
        Barrier(0)


# -- owners that end


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_killed_owners_lock_goes_to_the_next_one(forked: Callable[..., Any], kind: Any) -> None:
    lock = kind(name="vault")
    for acquire in (lambda: lock.acquire(), lambda: lock.acquire(False), lambda: lock.acquire(True, 5)):
        killed_with(forked, lock)
        began = time.monotonic()
        with pytest.warns(LockRecoveredWarning, match="'vault'.*process that died"):
            assert acquire()
        assert time.monotonic() - began < RECOVERY
        lock.release()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_lock_that_raises_when_its_owner_died_is_free_afterwards(forked: Callable[..., Any], kind: Any) -> None:
    lock = kind(on_owner_death="raise")
    killed_with(forked, lock)
    with pytest.raises(OwnerDied, match="half changed"):
        lock.acquire()
    assert not lock.locked()
    with lock:
        assert lock.locked()


def test_a_warning_that_is_an_error_does_not_leave_the_lock_taken(forked: Callable[..., Any]) -> None:
    lock = Lock()
    killed_with(forked, lock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LockRecoveredWarning):
            lock.acquire()
    assert not lock.locked()


def test_a_waiting_condition_gets_its_lock_back_from_a_dead_process(forked: Callable[..., Any]) -> None:
    condition = Condition(Lock(on_owner_death="raise"))

    def notify_and_die() -> None:
        condition.acquire()
        condition.notify()
        os.kill(os.getpid(), signal.SIGKILL)

    with condition:
        forked(notify_and_die)
        with pytest.raises(OwnerDied):
            condition.wait(20)
        assert condition._lock._is_mine()  # so that `with` can release it
    with condition:
        pass


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_a_dead_holders_permits_come_back(forked: Callable[..., Any], kind: Any) -> None:
    semaphore = kind(3)
    killed_with(forked, semaphore, semaphore)
    semaphore.acquire()
    began = time.monotonic()
    assert semaphore.acquire(timeout=5)
    assert semaphore.acquire(timeout=5)
    assert time.monotonic() - began < RECOVERY
    assert not semaphore.acquire(timeout=0.15), "no more than there were"
    for _ in range(3):
        semaphore.release()
    assert semaphore.get_value() == 3


def test_signals_of_the_dead_do_not_come_back(forked: Callable[..., Any]) -> None:
    """A semaphore that is taken here and released there has no owners: a phantom permit would be a false signal."""
    signals = Semaphore(0)
    signals.release()
    signals.release()
    killed_with(forked, signals, signals)
    assert not signals.acquire(timeout=0.15)
    # Handed over: taken by one that dies, given back by another one.
    baton = Semaphore(1)
    killed_with(forked, baton)
    baton.release()
    assert baton.acquire(False)
    assert not baton.acquire(timeout=0.15)


def test_a_dead_waiter_takes_no_notification(forked: Callable[..., Any]) -> None:
    condition, ready, woken = Condition(), Semaphore(0), Semaphore(0)

    def wait() -> None:
        with condition:
            ready.release()
            assert condition.wait(20)
        woken.release()

    first = forked(wait)
    assert ready.acquire(timeout=20)
    forked(wait)
    assert ready.acquire(timeout=20)
    with condition:  # the first one waits by now, for its lock is free
        first.kill()
        first.join()
        condition.notify()
    assert woken.acquire(timeout=20)


@pytest.mark.parametrize("lock", [Lock, RLock])
@pytest.mark.parametrize("moment", ["stopped", "waits for the lock", "dying"])
def test_a_notification_outlives_whom_it_was_for(forked: Callable[..., Any], lock: Any, moment: str) -> None:
    """Who dies before wait() has returned leaves it to one that waited at the time, and to nobody else."""
    condition, ready, woken = Condition(lock()), Semaphore(0), Semaphore(0)

    def wait() -> None:
        with condition:
            ready.release()
            assert condition.wait(20)
        woken.release()

    def start() -> Any:
        process = forked(wait)
        assert ready.acquire(timeout=20)
        with condition:  # it waits by now, for its lock is free
            return process

    first, _ = start(), start()
    if moment == "stopped":
        os.kill(first.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        with condition:
            condition.notify()
        first.kill()
    elif moment == "dying":
        with condition:
            first.kill()
            condition.notify()
    else:
        with condition:
            condition.notify()
            if lock is Lock:  # it is woken at once, else when the lock is released
                while condition._lock._waiters() == 0:
                    time.sleep(0.001)
            first.kill()
            first.join()
    assert woken.acquire(timeout=20), "the dead one took it along"
    late = forked(wait)
    assert ready.acquire(timeout=20)
    with condition:
        pass
    assert not woken.acquire(timeout=0.3), "it went to one that came later"
    with condition:
        condition.notify()
    assert woken.acquire(timeout=20)
    late.join()


def test_a_dead_party_breaks_the_barrier(forked: Callable[..., Any]) -> None:
    barrier, ended = Barrier(3), []

    def wait() -> None:
        try:
            barrier.wait(20)
        except threading.BrokenBarrierError:
            ended.append(time.monotonic())

    process = forked(barrier.wait)
    thread = threading.Thread(target=wait)
    thread.start()
    while barrier.n_waiting < 2:
        time.sleep(0.001)
    process.kill()
    process.join()
    began = time.monotonic()
    thread.join(20)
    assert ended[0] - began < RECOVERY
    assert barrier.broken


def test_a_party_that_dies_in_the_action_breaks_the_barrier(forked: Callable[..., Any]) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    barrier = Barrier(2, die)
    process = forked(lambda: barrier.wait() if barrier.n_waiting else None)
    process.join()  # nobody was there: it did nothing
    results: list[str] = []

    def wait() -> None:
        try:
            barrier.wait(20)
        except threading.BrokenBarrierError:
            results.append("broken")

    thread = threading.Thread(target=wait)
    thread.start()
    while barrier.n_waiting < 1:
        time.sleep(0.001)
    forked(barrier.wait)
    thread.join(20)
    assert results == ["broken"]


def test_a_lock_of_a_thread_that_has_ended_is_not_taken_over() -> None:
    """Somebody else may release it later: that is what it may have been taken for."""
    lock = Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not lock.acquire(timeout=0.2)
    assert lock.locked()
    assert repr(lock) == "<Lock(owner=SomeOtherThread)>"
    lock.release()
    assert lock.acquire(False)
    lock.release()


def test_records_of_ended_threads_go_with_their_last_lock() -> None:
    def records() -> int:
        return len(_core.board_read(None))

    locks = [Lock() for _ in range(3)]
    before = records()

    def take_all() -> None:
        for lock in locks:
            lock.acquire()

    thread = threading.Thread(target=take_all)
    thread.start()
    thread.join()
    for lock in locks:
        assert records() >= before + 1
        lock.release()
    until = time.monotonic() + 10  # join() may return a moment before the thread's own end
    while records() > before:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_an_rlock_of_a_thread_that_has_ended_is_lost() -> None:
    lock = RLock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not lock.acquire(timeout=0.15)
    with pytest.raises(OwnerDied, match="ended"):
        lock.acquire()


def test_a_forked_child_does_not_own_its_parents_locks(forked: Callable[..., Any]) -> None:
    lock, rlock, answer = Lock(), RLock(), Semaphore(0)

    def look() -> None:
        if not lock._is_mine() and not rlock._is_mine() and not rlock.acquire(False):
            answer.release()

    with lock, rlock:
        forked(look)
        assert answer.acquire(timeout=20)
    assert not lock.locked()


def test_one_thread_that_waits_for_itself() -> None:
    lock = Lock(name="twice")
    with lock, pytest.raises(DeadlockError, match=r"'twice'.*holds itself"), lock:
        pass


def test_shared_waits_show(forked: Callable[..., Any]) -> None:
    lock, event = Lock(name="door"), Event(name="bell")

    def want() -> None:
        with lock:
            pass

    with lock:
        forked(want)
        forked(event.wait)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            seen = {wait.what: wait for wait in diagnose.waits()}
            texts = " ".join(seen)
            if "Lock 'door' (made at" in texts and "Event 'bell' (made at" in texts:
                break
        else:
            pytest.fail(f"only these wait: {texts}")
        assert next(wait for what, wait in seen.items() if "door" in what).owner == _core.thread_token()
