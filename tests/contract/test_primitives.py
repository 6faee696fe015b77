"""What locks, conditions, semaphores, events and barriers promise: treadle's and the standard library's alike."""

from __future__ import annotations

import threading as plain
import time
from types import ModuleType

import pytest
from sync_impl import THREADING, end, in_thread, start

pytestmark = [pytest.mark.parametrize("threading", THREADING), pytest.mark.timeout(60)]


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_excludes(threading: ModuleType, kind: str) -> None:
    lock, inside, worst = getattr(threading, kind)(), [], []

    def work() -> None:
        for _ in range(2000):
            with lock:
                inside.append(1)
                worst.append(len(inside))
                inside.pop()

    end(*[start(work) for _ in range(6)])
    assert len(worst) == 12000
    assert max(worst) == 1


def test_lock_is_released_by_anybody(threading: ModuleType) -> None:
    lock = threading.Lock()
    lock.acquire()
    in_thread(lock.release)
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()


def test_rlock_is_released_by_its_owner_only(threading: ModuleType) -> None:
    lock = threading.RLock()

    def release() -> str:
        try:
            lock.release()
        except RuntimeError:
            return "refused"
        return "released"

    with lock, lock:
        assert in_thread(release) == "refused"
        assert in_thread(lock.acquire, False) is False
    assert in_thread(lambda: lock.acquire(False) and (lock.release() or True)) is True


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [((False, 1), ValueError), ((True, -2), ValueError), ((True, 1e12), OverflowError), ((True, "x"), TypeError)],
)
def test_bad_arguments(threading: ModuleType, kind: str, arguments: tuple, error: type) -> None:
    lock = getattr(threading, kind)()
    with pytest.raises(error):
        lock.acquire(*arguments)
    assert lock.acquire(False)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_time_out(threading: ModuleType, kind: str) -> None:
    lock = getattr(threading, kind)()
    lock.acquire()
    begin = time.monotonic()
    assert in_thread(lambda: lock.acquire(timeout=0.1)) is False
    assert 0.09 <= time.monotonic() - begin < 5
    lock.release()
    assert in_thread(lambda: lock.acquire(timeout=0.1)) is True


@pytest.mark.parametrize("lock", [None, "Lock", "RLock"])
def test_condition_wakes_each_once(threading: ModuleType, lock: str | None) -> None:
    condition = threading.Condition(getattr(threading, lock)() if lock else None)
    ready, woken = plain.Semaphore(0), []

    def wait(i: int) -> None:
        with condition:
            ready.release()
            condition.wait()
            woken.append(i)

    threads = []
    for i in range(4):
        threads.append(start(wait, i))
        assert ready.acquire(timeout=10)
    with condition:  # whoever holds it knows that all of them wait
        condition.notify(2)
    end(*threads[:2])
    with condition:
        assert sorted(woken) == [0, 1], "the oldest waiters come first"
        condition.notify_all()
    end(*threads)
    assert sorted(woken) == [0, 1, 2, 3]


def test_condition_restores_recursion(threading: ModuleType) -> None:
    condition = threading.Condition()
    with condition, condition:
        assert condition.wait(0.01) is False
        assert in_thread(condition.acquire, False) is False
    assert in_thread(lambda: condition.acquire(False)) is True


def test_condition_needs_its_lock(threading: ModuleType) -> None:
    condition = threading.Condition()
    for method in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError):
            method()


def test_condition_on_a_foreign_lock(threading: ModuleType) -> None:
    class Foreign:
        def __init__(self) -> None:
            self.inner = plain.Lock()
            self.acquire, self.release = self.inner.acquire, self.inner.release
            self.locked = self.inner.locked  # which the standard library's wants from 3.14 on
            self.__enter__ = self.inner.__enter__

        def __enter__(self) -> bool:
            return self.inner.__enter__()

        def __exit__(self, *error: object) -> None:
            self.inner.__exit__(*error)

    condition, ready = threading.Condition(Foreign()), plain.Event()
    seen = []

    def wait() -> None:
        with condition:
            ready.set()
            seen.append(condition.wait(10))

    thread = start(wait)
    assert ready.wait(10)
    with condition:
        condition.notify()
    end(thread)
    assert seen == [True]


def test_wait_for_returns_the_last_value(threading: ModuleType) -> None:
    condition = threading.Condition()
    with condition:
        assert condition.wait_for(lambda: "yes") == "yes"
        assert condition.wait_for(lambda: 0, timeout=0.02) == 0


def test_semaphore_counts(threading: ModuleType) -> None:
    semaphore, inside, worst = threading.Semaphore(3), [], []

    def work() -> None:
        for _ in range(300):
            with semaphore:
                inside.append(1)
                worst.append(len(inside))
                inside.pop()

    end(*[start(work) for _ in range(8)])
    assert len(worst) == 2400
    assert max(worst) <= 3


def test_semaphore_wakes_as_many_as_permits(threading: ModuleType) -> None:
    semaphore, got = threading.Semaphore(0), []
    threads = [start(lambda: got.append(semaphore.acquire())) for _ in range(5)]
    semaphore.release(3)
    semaphore.release(2)
    end(*threads)
    assert got == [True] * 5
    assert not semaphore.acquire(blocking=False)


def test_semaphore_errors(threading: ModuleType) -> None:
    with pytest.raises(ValueError):
        threading.Semaphore(-1)
    with pytest.raises(ValueError):
        threading.Semaphore().release(0)
    with pytest.raises(ValueError):
        threading.Semaphore().acquire(False, 1)
    bounded = threading.BoundedSemaphore(1)
    with pytest.raises(ValueError):
        bounded.release()


def test_event(threading: ModuleType) -> None:
    event, seen = threading.Event(), []
    assert event.wait(0.01) is False
    threads = [start(lambda: seen.append(event.wait())) for _ in range(4)]
    event.set()
    end(*threads)
    assert seen == [True] * 4
    assert event.is_set()
    event.clear()
    assert not event.is_set()


def test_barrier_lets_each_round_through(threading: ModuleType) -> None:
    acted: list[int] = []
    barrier = threading.Barrier(4, lambda: acted.append(1))
    rounds: list[int] = []

    def work() -> None:
        rounds.extend(barrier.wait() for _ in range(50))

    end(*[start(work) for _ in range(4)])
    assert len(acted) == 50
    assert sorted(rounds) == sorted(list(range(4)) * 50)


def test_barrier_breaks(threading: ModuleType) -> None:
    barrier = threading.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    other = start(barrier.wait)
    barrier.wait(10)
    end(other)


def test_barrier_action_that_raises_breaks_it(threading: ModuleType) -> None:
    def action() -> None:
        raise KeyError("no")

    barrier = threading.Barrier(1, action)
    with pytest.raises(KeyError):
        barrier.wait()
    assert barrier.broken


def test_subclasses_and_attributes(threading: ModuleType) -> None:
    for kind in ("Condition", "Semaphore", "BoundedSemaphore", "Event"):

        class Mine(getattr(threading, kind)):
            pass

        thing = Mine()
        thing.note = 1
        assert thing.note == 1
        getattr(threading, kind)().note = 2


def test_timer(threading: ModuleType) -> None:
    done = plain.Event()
    timer = threading.Timer(0.02, done.set)
    timer.start()
    assert done.wait(10)
    end(timer)
    cancelled = threading.Timer(60, done.clear)
    cancelled.start()
    cancelled.cancel()
    end(cancelled)
    assert done.is_set()
