"""What every `concurrent.futures.Executor` promises: the same tests on treadle's pools and on the stdlib's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import io
import logging
import threading
import time
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, Future
from pathlib import Path

import contract_work as work
import pytest
from contract_work import MakeExecutor

import treadle


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """A file that tasks wait for."""
    return tmp_path / "go"


def occupy(executor: concurrent.futures.Executor, tmp_path: Path, go: Path, count: int) -> list[Future]:
    """Have `count` workers run something that ends when `go` exists."""
    futures = [executor.submit(work.gate, str(tmp_path / f"started-{i}"), str(go), i) for i in range(count)]
    for i in range(count):
        work.until(tmp_path / f"started-{i}")
    return futures


# -- submit, result, exception


def test_result(make: MakeExecutor) -> None:
    with make() as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        future = executor.submit(work.square, 7)
        assert isinstance(future, Future)
        assert future.result(10) == 49
        assert future.exception(10) is None
        assert future.done() and not future.running() and not future.cancelled()


def test_every_keyword_is_the_functions_own(make: MakeExecutor) -> None:
    keywords = {"fn": 1, "self": 2, "timeout": 3, "retries": 4, "engine": 5, "workers": 6, "on_error": 7, "buffer": 8}
    with make() as executor:
        assert executor.submit(work.echo, 0, **keywords).result(10) == ((0,), keywords)


def test_returns_none_and_exceptions_as_values(make: MakeExecutor) -> None:
    with make() as executor:
        assert executor.submit(work.nothing).result(10) is None
        (value,), _ = executor.submit(work.echo, ValueError("a value")).result(10)
        assert isinstance(value, ValueError) and value.args == ("a value",)


def test_exception(make: MakeExecutor) -> None:
    with make() as executor:
        future = executor.submit(work.fail, 5)
        error = future.exception(10)
        assert type(error) is ValueError and error.args == ("bad item", 5)
        with pytest.raises(ValueError) as caught:
            future.result(10)
        assert caught.value is error
        assert future.done() and not future.cancelled()


def test_cause_survives_or_is_told(make: MakeExecutor) -> None:
    with make() as executor:
        error = executor.submit(work.chained).exception(10)
        assert type(error) is RuntimeError
        assert "the cause" in str(error.__cause__), "in the chain, or in the remote traceback"


def test_base_exception_is_the_tasks_result(make: MakeExecutor) -> None:
    with make() as executor:
        future = executor.submit(work.uncatchable)
        assert type(future.exception(10)) is work.Uncatchable
        assert executor.submit(work.square, 3).result(10) == 9


def test_a_thousand_from_four_threads(make: MakeExecutor) -> None:
    results: dict[int, list[int]] = {}
    with make() as executor:

        def run(base: int) -> None:
            futures = [executor.submit(work.square, base + i) for i in range(250)]
            results[base] = [f.result(30) for f in futures]

        threads = [threading.Thread(target=run, args=(base,)) for base in (0, 1000, 2000, 3000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {base: [(base + i) ** 2 for i in range(250)] for base in (0, 1000, 2000, 3000)}


@pytest.mark.needs("background")
def test_workers_really_run_at_the_same_time(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(3) as executor:
        futures = occupy(executor, tmp_path, go, 3)
        assert not any(f.done() for f in futures)
        work.touch(go)
        assert [f.result(10) for f in futures] == [0, 1, 2]


@pytest.mark.needs("background")
def test_never_more_at_once_than_workers(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(2) as executor:
        occupy(executor, tmp_path, go, 2)
        third = executor.submit(work.touch, str(tmp_path / "third"))
        with pytest.raises(TimeoutError):
            third.result(0.1)
        assert not (tmp_path / "third").exists()
        work.touch(go)
        third.result(10)
        assert (tmp_path / "third").exists()


# -- states, cancel, time-outs of waiting


@pytest.mark.needs("background")
def test_states(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (running,) = occupy(executor, tmp_path, go, 1)
        waiting = [executor.submit(work.square, i) for i in range(5)]
        assert running.running() and not running.done() and not running.cancelled()
        assert not waiting[-1].running() and not waiting[-1].done()
        work.touch(go)
        assert [f.result(10) for f in waiting] == [0, 1, 4, 9, 16]
        assert running.done() and not running.running()


@pytest.mark.needs("background")
def test_cancel_queued(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (_running,) = occupy(executor, tmp_path, go, 1)
        queued = [executor.submit(work.logged, str(tmp_path / "log"), i) for i in range(5)]
        assert queued[-1].cancel() and queued[-1].cancel()
        assert queued[-1].cancelled() and queued[-1].done()
        with pytest.raises(CancelledError):
            queued[-1].result(10)
        with pytest.raises(CancelledError):
            queued[-1].exception(10)
        work.touch(go)
        assert [f.result(10) for f in queued[:-1]] == [0, 1, 2, 3]
    assert work.lines(tmp_path / "log") == ["0", "1", "2", "3"], "what is cancelled never runs"


@pytest.mark.needs("background")
def test_running_and_done_cannot_be_cancelled(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        if isinstance(executor, treadle.Pool):
            executor.driver.cancel_running = False  # the standard library's meaning, and what its drop-in faces have
        (running,) = occupy(executor, tmp_path, go, 1)
        assert not running.cancel()
        work.touch(go)
        assert running.result(10) == 0
        assert not running.cancel() and not running.cancelled()


@pytest.mark.needs("background")
def test_waiting_has_a_timeout(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (future,) = occupy(executor, tmp_path, go, 1)
        for wait in (future.result, future.exception):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                wait(0.05)
            assert 0.04 < time.monotonic() - begin < 5
        with pytest.raises(TimeoutError):
            future.result(0)
        work.touch(go)
        assert future.result(10) == 0


# -- callbacks


@pytest.mark.needs("background")
def test_callback_before_and_after(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (future,) = occupy(executor, tmp_path, go, 1)
        calls: list[tuple[int, Future]] = []
        both = threading.Event()
        future.add_done_callback(lambda f: calls.append((1, f)))
        future.add_done_callback(lambda f: (calls.append((2, f)), both.set()))
        assert not calls
        work.touch(go)
        assert both.wait(10)
        assert calls == [(1, future), (2, future)]
        future.add_done_callback(lambda f: calls.append((3, f)))
        assert calls[-1] == (3, future), "called at once, in this thread"


@pytest.mark.needs("background")
def test_callback_of_a_cancelled_one(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        occupy(executor, tmp_path, go, 1)
        future = [executor.submit(work.square, i) for i in range(5)][-1]
        calls: list[bool] = []
        future.add_done_callback(lambda f: calls.append(f.cancelled()))
        assert future.cancel()
        assert calls == [True]
        work.touch(go)


@pytest.mark.needs("background")
def test_callback_that_raises(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    logged = io.StringIO()  # not caplog, which keeps the traceback, and with it whatever its frames hold
    handler = logging.StreamHandler(logged)
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with make(1) as executor:
            (future,) = occupy(executor, tmp_path, go, 1)
            called = threading.Event()
            future.add_done_callback(lambda f: 1 / 0)
            future.add_done_callback(lambda f: called.set())
            work.touch(go)
            assert called.wait(10), "the next callback is called"
            assert future.result(10) == 0
            assert executor.submit(work.square, 3).result(10) == 9
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert "ZeroDivisionError" in logged.getvalue(), "not swallowed"


def test_callback_may_submit(make: MakeExecutor) -> None:
    with make(1) as executor:
        later: concurrent.futures.Future[Future] = Future()
        first = executor.submit(work.square, 2)
        first.add_done_callback(lambda f: later.set_result(executor.submit(work.square, f.result())))
        assert later.result(10).result(10) == 16


# -- wait and as_completed


@pytest.mark.needs("background")
def test_wait(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(2) as executor:
        (blocked,) = occupy(executor, tmp_path, go, 1)
        good, bad = executor.submit(work.square, 2), executor.submit(work.fail)
        done, pending = concurrent.futures.wait([good, blocked], 10, FIRST_COMPLETED)
        assert done == {good} and pending == {blocked}
        done, pending = concurrent.futures.wait([bad, blocked], 10, FIRST_EXCEPTION)
        assert done == {bad} and pending == {blocked}
        done, pending = concurrent.futures.wait([good, bad, blocked], 0.02, ALL_COMPLETED)
        assert done == {good, bad} and pending == {blocked}
        work.touch(go)
        done, pending = concurrent.futures.wait([good, bad, blocked], 10)
        assert done == {good, bad, blocked} and not pending


@pytest.mark.needs("background")
def test_wait_in_many_threads(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (future,) = occupy(executor, tmp_path, go, 1)
        seen: list[int] = []
        waiting = threading.Semaphore(0)

        def wait() -> None:
            waiting.release()
            seen.append(future.result(10))

        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert waiting.acquire(timeout=10)
        work.touch(go)
        for thread in threads:
            thread.join(10)
        assert seen == [0] * 8


@pytest.mark.needs("background")
def test_as_completed(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(2) as executor:
        (blocked,) = occupy(executor, tmp_path, go, 1)
        others = [executor.submit(work.square, i) for i in range(10)]
        iterator = concurrent.futures.as_completed([blocked, *others], 20)
        assert {next(iterator) for _ in others} == set(others)
        work.touch(go)
        assert list(iterator) == [blocked]


@pytest.mark.needs("background")
def test_as_completed_timeout(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        (blocked,) = occupy(executor, tmp_path, go, 1)
        with pytest.raises(TimeoutError):
            list(concurrent.futures.as_completed([blocked], 0.02))
        work.touch(go)


# -- map


def test_map_order(make: MakeExecutor) -> None:
    with make() as executor:
        assert list(executor.map(work.square, range(300))) == [i * i for i in range(300)]
        assert list(executor.map(work.square, range(30), chunksize=7)) == [i * i for i in range(30)]
        assert list(executor.map(work.square, [])) == []


def test_map_keeps_order_when_the_first_is_last(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(2) as executor:
        results = executor.map(work.after, [str(go), str(tmp_path)], ["first", "second"])
        other = threading.Timer(0.05, work.touch, [go])
        other.start()
        assert list(results) == ["first", "second"]
        other.join()


def test_map_several_iterables_until_the_shortest(make: MakeExecutor) -> None:
    with make() as executor:
        assert list(executor.map(work.add, range(10), range(100, 103))) == [100, 102, 104]


def test_map_error_comes_in_its_place(make: MakeExecutor) -> None:
    with make() as executor:
        results = executor.map(work.fail_on_three, range(10))
        assert [next(results), next(results), next(results)] == [0, 1, 2]
        with pytest.raises(ValueError, match="bad item"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


# -- shutdown


def test_leaving_the_block_waits(make: MakeExecutor, tmp_path: Path) -> None:
    with make() as executor:
        futures = [executor.submit(work.logged, str(tmp_path / "log"), i) for i in range(50)]
    assert all(f.done() for f in futures)
    assert sorted(map(int, work.lines(tmp_path / "log"))) == list(range(50))


def test_submit_after_shutdown(make: MakeExecutor) -> None:
    executor = make()
    assert executor.submit(work.square, 2).result(10) == 4
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(work.square, 3)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_shutdown_of_an_unused_one(make: MakeExecutor) -> None:
    executor = make()
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(work.square, 3)


@pytest.mark.needs("background")
def test_shutdown_without_waiting_still_finishes(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    executor = make(1)
    (running,) = occupy(executor, tmp_path, go, 1)
    queued = [executor.submit(work.square, i) for i in range(5)]
    executor.shutdown(wait=False)
    assert not running.done()
    with pytest.raises(RuntimeError):
        executor.submit(work.square, 3)
    work.touch(go)
    assert running.result(10) == 0
    assert [f.result(10) for f in queued] == [0, 1, 4, 9, 16]


@pytest.mark.needs("background")
def test_shutdown_cancels_what_has_not_started(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    executor = make(1)
    (running,) = occupy(executor, tmp_path, go, 1)
    queued = [executor.submit(work.square, i) for i in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    work.touch(go)
    executor.shutdown()
    assert running.result(10) == 0
    # The standard library's second shutdown does not wait, and tells no waiter of the cancelled ones: ask each.
    for future in queued:
        with contextlib.suppress(concurrent.futures.CancelledError):
            future.result(10)
    # The standard process pool has already promised some to its workers, and cancels the rest in a thread, later.
    if not make.name.startswith("stdlib"):  # type: ignore[attr-defined]
        assert all(f.cancelled() for f in queued)


@pytest.mark.needs("background")
def test_shutdown_from_many_threads(pools: MakeExecutor, tmp_path: Path, go: Path) -> None:
    executor = pools(1)  # the standard process pool fails at this: its second shutdown finds None for a lock
    occupy(executor, tmp_path, go, 1)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(3)]
    for thread in threads:
        thread.start()
    work.touch(go)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.needs("background")
def test_dropping_the_executor_finishes_the_work(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    executor = make(1)
    (running,) = occupy(executor, tmp_path, go, 1)
    queued = [executor.submit(work.square, i) for i in range(5)]
    del executor
    gc.collect()
    work.touch(go)
    assert running.result(10) == 0
    assert [f.result(10) for f in queued] == [0, 1, 4, 9, 16]


# -- asyncio


def test_run_in_executor(make: MakeExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, work.square, i) for i in range(20)))

    with make() as executor:
        assert asyncio.run(main()) == [i * i for i in range(20)]


def test_run_in_executor_raises(make: MakeExecutor) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(executor, work.fail, 1)

    with make() as executor, pytest.raises(ValueError, match="bad item"):
        asyncio.run(main())


@pytest.mark.needs("background")
def test_wrap_future_cancels_what_waits(make: MakeExecutor, tmp_path: Path, go: Path) -> None:
    with make(1) as executor:
        occupy(executor, tmp_path, go, 1)
        future = [executor.submit(work.square, i) for i in range(5)][-1]

        async def main() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(future), 0.02)

        asyncio.run(main())
        assert future.cancelled()
        work.touch(go)
