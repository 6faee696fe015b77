"""A call on an idle pool: sent by the thread that submits it, received by the thread that waits for it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from patience import until

import treadle
from treadle.errors import WorkerDied
from treadle.pool.driver import Driver
from treadle.pool.future import Future


def double(x: int) -> int:
    return 2 * x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail(x: int) -> None:
    raise ValueError(x)


def log(x: int) -> int:
    logging.getLogger("direct").warning("number %d", x)
    return x


@pytest.fixture
def pool() -> Iterator[treadle.Pool]:
    with treadle.Pool(2, "processes") as pool:
        assert pool.submit(double, 4).result() == 8
        yield pool


@pytest.fixture
def by_the_reactor(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many results the reactor's thread has taken in: the workers of each."""
    seen: list[int] = []
    finished = Driver.finished

    def note(self: Driver, worker: int, results: Any) -> None:
        seen.append(worker)
        finished(self, worker, results)

    monkeypatch.setattr(Driver, "finished", note)
    return seen


def test_a_round_trip_leaves_the_reactor_asleep(pool: treadle.Pool, by_the_reactor: list[int]) -> None:
    assert [pool.submit(double, i).result() for i in range(200)] == [2 * i for i in range(200)]
    assert len(by_the_reactor) < 100
    assert pool.stats().done == 201


def test_a_round_trip_with_a_thread_concerns_two_threads(
    monkeypatch: pytest.MonkeyPatch, by_the_reactor: list[int]
) -> None:
    taken: list[Driver] = []
    monkeypatch.setattr(Driver, "_take", lambda driver, take=Driver._take: (taken.append(driver), take(driver))[1])
    with treadle.Pool(3, "threads") as pool:
        assert pool.submit(double, 4).result() == 8
        taken.clear()
        by_the_reactor.clear()
        threads = {pool.submit(threading.get_ident).result() for _ in range(200)}
        assert len(threads) == 1, "the one that was idle last"
        assert taken == [] and by_the_reactor == []
        assert pool.stats().done == 201
        with pytest.raises(ValueError, match="7"):
            pool.submit(fail, 7).result()
        naps = [pool.submit(nap, 0.05) for _ in range(6)]  # more than there are threads
        assert [future.result() for future in naps] == [0.05] * 6
        with pytest.raises(TimeoutError):
            pool.submit(nap, 0.2).result(0.001)


def test_nobody_has_to_wait_for_the_value(pool: treadle.Pool) -> None:
    futures = []
    for i in range(20):
        future = pool.submit(double, i)
        futures.append(future)
        until(future.done)
    seen: list[int] = []
    last = pool.submit(double, 50)
    last.add_done_callback(lambda future: seen.append(future.result()))
    until(lambda: seen == [100])
    assert [future.result() for future in concurrent.futures.as_completed(futures)]
    assert concurrent.futures.wait([pool.submit(double, 1)]).done


def test_callbacks_run_while_somebody_waits_directly(pool: treadle.Pool) -> None:
    for i in range(30):
        future = pool.submit(nap, 0.002)
        seen: list[float] = []
        adder = threading.Thread(target=lambda f=future, s=seen: f.add_done_callback(lambda f: s.append(f.result())))
        adder.start()
        assert future.result() == 0.002, i
        adder.join()
        until(lambda s=seen: s == [0.002])


def test_many_threads_have_their_own_round_trips(pool: treadle.Pool) -> None:
    wrong: list[Any] = []

    def trips(first: int) -> None:
        for i in range(first, first + 150):
            value = pool.submit(double, i).result(20)
            if value != 2 * i:
                wrong.append((i, value))

    threads = [threading.Thread(target=trips, args=(1000 * k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.stats().done == 901


def test_two_threads_wait_for_the_same_future(pool: treadle.Pool) -> None:
    for _ in range(30):
        future = pool.submit(nap, 0.001)
        got: list[float] = []
        threads = [threading.Thread(target=lambda f=future, g=got: g.append(f.result(20))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [0.001] * 3


def test_failures_timeouts_and_deaths_while_waiting(pool: treadle.Pool) -> None:
    for i in range(20):
        assert pool.submit(double, i).result() == 2 * i
        with pytest.raises(ValueError, match=str(i)):
            pool.submit(fail, i).result()
    slow = pool.submit(nap, 0.2)
    for seconds in (0, 0.001, 0.02, -1):
        with pytest.raises(TimeoutError):
            slow.result(seconds)
    assert slow.result() == 0.2
    for code in (3, 4):
        with pytest.raises(WorkerDied):
            pool.submit(os._exit, code).result()
        assert pool.submit(double, code).result() == 2 * code
    with pytest.raises(WorkerDied):
        pool.submit(signal.raise_signal, signal.SIGKILL).result()


@pytest.mark.parametrize("timeout", [0.03, 0.2])
def test_a_timeout_is_for_all_of_the_wait(pool: treadle.Pool, timeout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of it is spent where the value is looked for in the worker's lane, and only the rest after that."""
    spent: list[float] = []
    left: list[float | None] = []
    fetch, wait = Driver.fetch, Future._wait

    def note_fetch(self: Driver, future: Any, timeout: float | None) -> bool:
        begin = time.monotonic()
        found = fetch(self, future, timeout)
        spent.append(time.monotonic() - begin)
        return found

    def note_wait(self: Future, timeout: float | None) -> None:
        left.append(timeout)
        wait(self, timeout)

    monkeypatch.setattr(Driver, "fetch", note_fetch)
    monkeypatch.setattr(Future, "_wait", note_wait)
    slow = pool.submit(nap, 1.0)
    with pytest.raises(TimeoutError):
        slow.result(timeout)
    (first,), (rest,) = spent, left
    assert rest is not None and first > 0.0 and rest <= max(0.0, timeout - first)
    assert slow.result() == 1.0


def test_several_functions_and_large_values(pool: treadle.Pool) -> None:
    for i in range(20):
        assert pool.submit(double, i).result() == 2 * i
        assert pool.submit(nap, 0).result() == 0
        assert pool.submit(bytes, 100_000).result() == bytes(100_000)
        assert pool.submit(len, bytes(400_000)).result() == 400_000
        assert pool.submit(complex, i, 1).result() == complex(i, 1)


def test_a_log_record_is_there_before_the_result(pool: treadle.Pool, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(60):
        assert pool.submit(log, i).result() == i
        assert [record.getMessage() for record in caplog.records if record.name == "direct"][-1] == f"number {i}"


class Alarm(KeyboardInterrupt):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it came in a finalizer
def test_interrupts_lose_nothing(pool: treadle.Pool) -> None:
    """Whenever it comes, the next result is right, and no call is lost."""

    def ring(number: int, frame: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    futures, i = [], 0
    end = time.monotonic() + 1.2
    try:
        while time.monotonic() < end:
            i += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + i % 50 * 0.00004)
                try:
                    for k in range(10):
                        future = pool.submit(double, k)
                        futures.append((future, 2 * k))
                        assert future.result() == 2 * k
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [future.result(20) for future, _ in futures] == [value for _, value in futures]


def test_a_signal_handler_has_a_round_trip_of_its_own(pool: treadle.Pool) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: got.append(pool.submit(double, 5).result(20)))
    try:
        for i in range(10):
            signal.setitimer(signal.ITIMER_REAL, 0.003)
            assert pool.submit(nap, 0.01 + i / 1000).result() == 0.01 + i / 1000
            until(lambda i=i: len(got) == i + 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert got == [10] * 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("engine", ["processes", "auto"])
def test_a_fork_while_another_thread_has_the_locks_of_a_pool(engine: Any) -> None:
    """The child's submit is refused at once, and what it encodes and closes waits for no thread that is not there."""
    with treadle.Pool(1, engine) as pool:
        assert pool.submit(double, 2).result() == 4
        driver: Any = pool.driver
        one = driver.engine if engine == "processes" else driver.engine._processes
        with contextlib.ExitStack() as stack:
            for lock in (one._calls.functions._lock, one._making, driver._finishing):
                stack.enter_context(lock)
            if engine == "auto":
                stack.enter_context(driver.engine._lock)
            pid = os.fork()
            if pid == 0:
                signal.alarm(10)
                try:
                    pool.submit(lambda: None)
                except treadle.PoolClosed:
                    driver.engine.encode(fail, (1,), None, {})
                    if engine == "auto":
                        gate = threading.Lock()
                        driver.engine.encode(lambda: gate, (), None, {})  # it can't be pickled: that decides
                    driver.engine.close()
                    os._exit(7)
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert pool.submit(double, 3).result() == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_middle_of_a_wait_takes_nothing_along(pool: treadle.Pool) -> None:
    future = pool.submit(nap, 0.03)
    waiter = threading.Thread(target=future.result)
    waiter.start()
    pid = os.fork()
    if pid == 0:
        try:
            pool.submit(double, 1)
        except treadle.PoolClosed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    waiter.join()
    assert future.result() == 0.03
    assert pool.submit(double, 3).result() == 6
