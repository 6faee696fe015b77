"""What treadle's pools promise beyond an executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import pickle
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import contract_work as work
import pytest
from contract_work import MakeExecutor
from patience import until

import treadle
from treadle.pool import events as brain
from treadle.pool import registry, warm
from treadle.pool.driver import Driver
from treadle.pool.engines.auto import AutoEngine
from treadle.pool.waits import in_main_thread

measures = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the global lock, threads serve for both"
)

# -- bad input


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"workers": 0}, ValueError, "at least 1"),
        ({"workers": -3}, ValueError, "-3"),
        ({"workers": 1.5}, TypeError, "1.5"),
        ({"workers": True}, TypeError, "True"),
        ({"workers": "2"}, TypeError, "'2'"),
        ({"engine": "gpu"}, ValueError, "'gpu'"),
        ({"engine": None}, ValueError, "None"),
        ({"start_method": "magic"}, ValueError, "'magic'"),
    ],
)
def test_bad_pool(keywords: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        treadle.Pool(**keywords)
    with pytest.raises(error, match=words):
        treadle.map(work.square, [1], **keywords)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"timeout": 0}, ValueError, "more than 0"),
        ({"timeout": -1}, ValueError, "-1"),
        ({"timeout": float("nan")}, ValueError, "nan"),
        ({"timeout": "3"}, TypeError, "'3'"),
        ({"timeout": True}, TypeError, "True"),
        ({"retries": -1}, ValueError, "-1"),
        ({"retries": 1.0}, TypeError, "1.0"),
        ({"on_error": "ignore"}, ValueError, "'ignore'"),
        ({"buffer": 0}, ValueError, "at least 1"),
        ({"buffer": 2.5}, TypeError, "2.5"),
    ],
)
def test_bad_options(keywords: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        treadle.map(work.square, [1], **keywords)
    with treadle.Pool(1, engine="threads") as pool:
        with pytest.raises(error, match=words):
            pool.map(work.square, [1], **keywords)
        with pytest.raises(error, match=words):
            pool.amap(work.square, [1], **keywords)
        if "timeout" in keywords or "retries" in keywords:
            with pytest.raises(error, match=words):
                pool.options(**keywords)


def test_not_callable(pools: MakeExecutor) -> None:
    with pools() as pool:
        with pytest.raises(TypeError, match="callable, not 5"):
            pool.submit(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable, not None"):
            pool.map(None, [1])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="int"):
            next(iter(pool.map(work.square, 5)))  # type: ignore[call-overload]
        assert pool.submit(work.square, 3).result(10) == 9


# -- options


@pytest.mark.needs("timeout")
def test_options_take_no_keyword_of_the_function(pools: MakeExecutor) -> None:
    keywords = {"timeout": "t", "retries": "r", "fn": "f"}
    with pools() as pool:
        assert pool.options(timeout=20, retries=1).submit(work.echo, **keywords).result(10) == ((), keywords)


def test_retries(pools: MakeExecutor, tmp_path: Path) -> None:
    with pools() as pool:
        patient, path = pool.options(retries=3), str(tmp_path / "calls")
        assert patient.submit(work.fail_times, path, 3).result(10) == 4
        error = patient.submit(work.fail_times, str(tmp_path / "more"), 10).exception(10)
        assert type(error) is ConnectionError
        info = treadle.failure(error)
        assert info is not None and info.attempts == 4 and len(work.lines(tmp_path / "more")) == 4
        assert type(pool.submit(work.fail_times, str(tmp_path / "none"), 1).exception(10)) is ConnectionError
        assert len(work.lines(tmp_path / "none")) == 1, "no retry unless asked for"
        assert list(patient.map(work.fail_times, [str(tmp_path / f"map-{i}") for i in range(3)], [1, 2, 3])) == [
            2,
            3,
            4,
        ]


@pytest.mark.needs("timeout")
def test_timeout_is_of_the_task_not_of_its_wait_in_the_queue(pools: MakeExecutor, tmp_path: Path) -> None:
    with pools(1) as pool:
        first = pool.options(timeout=20).submit(work.gate, str(tmp_path / "started"), str(tmp_path / "go"))
        work.until(tmp_path / "started")
        second = pool.options(timeout=0.05).submit(work.square, 3)
        with pytest.raises(TimeoutError):
            first.result(0.3)  # the second one now waits far longer than its time-out
        work.touch(tmp_path / "go")
        assert second.result(10) == 9


# -- errors


def test_error_carries_item_attempts_pid_and_traceback(pools: MakeExecutor) -> None:
    with pools() as pool:
        error = pool.submit(work.fail, [1, 2]).exception(10)
        info = treadle.failure(error)
        assert info is not None
        assert info.item == [1, 2] and info.index is None and info.attempts == 1
        assert "in fail\n" in info.traceback and 'raise ValueError("bad item", x)' in info.traceback
        assert "treadle/pool" not in info.traceback, "our own frames are nobody's business"
        assert isinstance(info.pid, int)
        if pools.name == "processes":  # type: ignore[attr-defined]
            assert info.pid != os.getpid()
            assert isinstance(error.__cause__, treadle.RemoteTraceback)
        two = treadle.failure(pool.submit(work.raise_, KeyError(1)).exception(10))
        assert two is not None and isinstance(two.item, KeyError)


def test_exception_with_two_required_arguments(pools: MakeExecutor) -> None:
    with pools() as pool:
        error = pool.submit(work.special, 7).exception(10)
        assert type(error) is work.Special
        assert (error.one, error.two) == (7, "two")


# -- stats, decision, names


@pytest.mark.needs("background")
def test_stats(pools: MakeExecutor, tmp_path: Path) -> None:
    with pools(2) as pool:
        assert pool.stats() == ([], 0, 0, 0, 0, 0, 0)
        running = [pool.submit(work.gate, str(tmp_path / f"s{i}"), str(tmp_path / "go")) for i in range(2)]
        for i in range(2):
            work.until(tmp_path / f"s{i}")
        queued = [pool.submit(work.square, i) for i in range(5)]
        assert queued[-1].cancel()
        # A cluster says with its next report where a task runs.
        until(lambda: all(worker.pid is not None for worker in pool.stats().workers if worker.state == "running"))
        stats = pool.stats()
        assert stats.queued == 4 and stats.cancelled == 1 and stats.done == stats.failed == stats.restarts == 0
        busy = [w for w in stats.workers if w.state == "running"]
        assert len(busy) == 2
        for worker in busy:
            assert worker.pid is not None and worker.running is not None and worker.seconds >= 0
            assert worker.running.startswith("gate(") and str(tmp_path)[:20] in worker.running
        if pools.name == "processes":  # type: ignore[attr-defined]
            assert len({w.pid for w in busy} | {os.getpid()}) == 3
        work.touch(tmp_path / "go")
        concurrent.futures.wait(running + queued, 10)
        assert type(pool.submit(work.fail).exception(10)) is ValueError
        stats = pool.stats()
        assert (stats.queued, stats.done, stats.failed, stats.cancelled) == (0, 6, 1, 1)
    assert pool.stats().workers == []


def test_decision_of_a_chosen_engine() -> None:
    for engine in ("threads", "processes"):
        with treadle.Pool(1, engine=engine) as pool:
            assert str(pool.decision) == f"{engine}: asked for"


def wait_a_little(_: int) -> None:
    time.sleep(0.02)


def compute_a_little(_: int) -> int:
    return sum(i * i for i in range(150_000))


@measures
def test_auto_chooses_threads_for_waiting() -> None:
    with treadle.Pool(2) as pool:
        assert pool.decision is None and "measuring" in repr(pool)
        assert list(pool.map(wait_a_little, range(30))) == [None] * 30
        decision = pool.decision
        assert decision is not None and decision.engine == "threads"
        assert "%" in decision.reason and "was waiting" in decision.reason and str(decision).startswith("threads: ")


@measures
def test_auto_chooses_processes_for_computing() -> None:
    with treadle.Pool(2) as pool:
        assert len(set(pool.map(compute_a_little, range(30)))) == 1
        decision = pool.decision
        assert decision is not None and decision.engine == "processes" and "was computing" in decision.reason


def test_auto_runs_each_of_the_first_calls_once(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    assert list(treadle.map(work.logged, [path] * 100, range(100), workers=4)) == list(range(100))
    assert sorted(map(int, work.lines(path))) == list(range(100)), "measuring runs nothing twice"


@measures
def test_auto_survives_a_crash_among_the_first_calls() -> None:
    with treadle.Pool(2) as pool:
        assert isinstance(pool.submit(os._exit, 3).exception(10), treadle.WorkerDied)
        assert pool.decision is not None and "exited with code 3" in pool.decision.reason
        assert pool.submit(work.square, 3).result(10) == 9


@measures
def test_auto_takes_what_cannot_be_pickled() -> None:
    lock = threading.Lock()
    with treadle.Pool(2) as pool:
        assert pool.submit(lock.locked).result(10) is False
        assert pool.decision is not None and pool.decision.engine == "threads" and "pickle" in pool.decision.reason


def test_auto_remembers_no_thread_that_has_left() -> None:
    with treadle.Pool(1, max_tasks_per_worker=1) as pool:
        lock = threading.Lock()  # it can't be pickled
        assert [pool.submit(lambda x: (lock.locked(), x)[1], x).result(10) for x in range(30)] == list(range(30))
        engine: Any = pool.driver.engine
        assert str(pool.decision).startswith("threads")
        assert not engine._in_processes


def test_auto_decides_without_a_lock_on_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    retarget = Driver.retarget

    def note(self: Driver, *args: Any, **kwargs: Any) -> None:
        lock: Any = self.engine._lock  # type: ignore[attr-defined]

        def look() -> None:  # in another thread, which has nothing of this one's
            free.append(lock.acquire(timeout=0.0))
            if free[-1]:
                lock.release()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        retarget(self, *args, **kwargs)

    monkeypatch.setattr(Driver, "retarget", note)
    with treadle.Pool(2) as pool:
        assert list(pool.map(wait_a_little, range(30))) == [None] * 30  # measured
        pool.driver.renew()
        pool.options(memory_limit=1 << 30)
    with treadle.Pool(2) as pool:
        gate = threading.Lock()
        assert pool.submit(lambda: gate.locked()).result(10) is False  # it can't be pickled
    with treadle.Pool(2) as pool:
        pool.options(memory_limit=1 << 30)
    assert free and all(free)


def test_a_map_that_is_refused_leaves_no_pool_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: AutoEngine, options: Any) -> None:
        raise ValueError("not that")

    warm.close()
    before = set(registry._live)
    monkeypatch.setattr(AutoEngine, "accept", refuse)
    with pytest.raises(ValueError, match="not that"):
        next(treadle.map(abs, [1], retries=2))
    assert set(registry._live) == before


def test_what_waits_within_an_inline_task_decides_nothing_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come between any two steps there: also between a decision and what it asks for."""
    lends: list[tuple[int, bool]] = []
    handle = Driver._handle

    def note(self: Driver, event: Any) -> None:
        if isinstance(event, brain.Lend):
            lends.append((event.change, in_main_thread()))
        handle(self, event)

    monkeypatch.setattr(Driver, "_handle", note)
    with treadle.Pool(1, "inline") as pool:
        assert pool.submit(lambda: pool.submit(abs, -3).result()).result() == 3
    assert lends and not any(here for _, here in lends)
    assert sum(change for change, _ in lends) == 0


def test_a_pool_cannot_be_pickled(pools: MakeExecutor) -> None:
    with pools() as pool, pytest.raises(TypeError, match="belong to this process"):
        pickle.dumps(pool)


# -- asyncio


def test_asubmit_and_amap(pools: MakeExecutor) -> None:
    async def numbers() -> Any:
        for i in range(50):
            yield i

    async def main() -> None:
        assert await pool.asubmit(work.square, 4) == 16
        with pytest.raises(ValueError, match="bad item"):
            await pool.options(retries=1).asubmit(work.fail, 1)
        assert [x async for x in pool.amap(work.square, range(100))] == [i * i for i in range(100)]
        assert [x async for x in pool.amap(work.add, numbers(), range(10))] == [2 * i for i in range(10)]
        assert sorted([x async for x in pool.amap(work.square, numbers(), ordered=False)]) == [i * i for i in range(50)]
        kept = [x async for x in pool.amap(work.fail_on_three, range(6), on_error="return")]
        assert kept[:3] + kept[4:] == [0, 1, 2, 4, 5] and isinstance(kept[3], ValueError)
        assert [x async for x in pool.amap(work.fail_on_three, range(6), on_error="skip")] == [0, 1, 2, 4, 5]
        with pytest.raises(ValueError):
            [x async for x in pool.amap(work.fail_on_three, range(6))]
        async with pool.amap(work.square, range(10**9)) as endless:
            assert await anext(endless) == 0

    with pools() as pool:
        asyncio.run(main())


@pytest.mark.needs("background")
def test_the_loop_runs_on_while_amap_waits(pools: MakeExecutor, tmp_path: Path) -> None:
    async def main() -> None:
        results = pool.amap(work.after, [str(tmp_path / "go")], [5])
        waiting = asyncio.ensure_future(anext(results))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        work.touch(tmp_path / "go")
        assert await waiting == 5

    with pools() as pool:
        asyncio.run(main())


@pytest.mark.needs("background")
def test_cancelling_amap_cancels_the_rest(pools: MakeExecutor, tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    async def main() -> None:
        results = pool.amap(work.after, [str(tmp_path / "go")] * 100, range(100), buffer=50)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 0.1)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    with pools(1) as pool:
        asyncio.run(main())
        assert pool.stats().cancelled >= 40
        work.touch(tmp_path / "go")
        assert pool.submit(work.logged, log, 1).result(10) == 1


# -- waiting for one's own pool


def test_a_task_may_wait_for_a_task_of_its_full_pool() -> None:
    with treadle.Pool(1, engine="threads") as pool:

        def outer(depth: int) -> int:
            return 0 if depth == 0 else 1 + pool.submit(outer, depth - 1).result(10)

        assert pool.submit(outer, 5).result(10) == 5
        assert pool.submit(lambda: sum(pool.map(work.square, range(20)))).result(10) == sum(i * i for i in range(20))


def test_nested_pools(pools: MakeExecutor) -> None:
    with pools() as pool:
        assert list(pool.map(work.nested, range(8))) == [sum(i * i for i in range(n)) for n in range(8)]
        assert pool.submit(work.nested_processes, 6).result(20) == 55


def _in_a_callback(pool: treadle.Pool, what: Any) -> Any:
    """What `what()` returns or raises when it is called by a done-callback."""
    seen: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def callback(_: Any) -> None:
        try:
            seen.set_result(what())
        except BaseException as error:
            seen.set_result(error.with_traceback(None))  # whose frames hold half of the pool

    release = threading.Event()
    first = pool.submit(release.wait, 10) if pool.decision and pool.decision.engine == "threads" else None
    future = first or pool.submit(time.sleep, 0.1)
    future.add_done_callback(callback)
    release.set()
    return seen.result(10)


@pytest.mark.timeout(25)
@pytest.mark.parametrize("name", ["threads", "processes"])
def test_shutdown_in_a_callback_does_not_hang(name: str) -> None:
    pool = treadle.Pool(1, engine=name)  # type: ignore[arg-type]
    outcome = _in_a_callback(pool, pool.shutdown)
    assert outcome is None or isinstance(outcome, RuntimeError), "done, or refused as the standard library does"
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(work.square, 2)


@pytest.mark.timeout(25)
@pytest.mark.parametrize("name", ["threads", "processes"])
def test_waiting_in_a_callback_does_not_hang(name: str) -> None:
    with treadle.Pool(1, engine=name) as pool:  # type: ignore[arg-type]
        for what in (lambda: pool.submit(work.square, 3).result(), lambda: next(pool.map(work.square, [3]))):
            outcome = _in_a_callback(pool, what)
            assert outcome == 9 or isinstance(outcome, RuntimeError)
        assert pool.submit(work.square, 3).result(10) == 9


def test_shutdown_in_a_thread_task_does_not_hang() -> None:
    pool = treadle.Pool(1, engine="threads")
    error = pool.submit(pool.shutdown).exception(10)
    assert error is None or isinstance(error, RuntimeError)
    pool.shutdown()


# -- garbage


def test_dropped_pools_are_forgotten(engine: str) -> None:
    def use(pool: treadle.Pool, times: int) -> weakref.ref[Any]:
        for _ in range(times):
            assert pool.submit(work.square, 2).result(10) == 4
        return weakref.ref(pool.driver)

    drivers = [use(treadle.Pool(1, engine=engine), times) for times in (0, 0, 1)]  # type: ignore[arg-type]
    until = time.monotonic() + 10
    while any(d() is not None for d in drivers) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert [d() for d in drivers] == [None] * 3


def test_results_and_arguments_are_not_kept() -> None:
    class Big:
        pass

    with treadle.Pool(1, engine="threads") as pool:
        for make in (lambda b: pool.submit(id, b).result(10), lambda b: list(pool.map(id, [b]))):
            big = Big()
            make(big)
            ref = weakref.ref(big)
            del big
            pool.submit(work.square, 1).result(10)
            until = time.monotonic() + 5
            while ref() is not None and time.monotonic() < until:
                gc.collect()
                time.sleep(0.01)
            assert ref() is None


# -- functions that change


def test_a_closure_is_sent_as_it_is_when_submitted() -> None:
    with treadle.Pool(1, engine="processes") as pool:
        n = 1000.5

        def current() -> float:
            return n

        for _ in range(20):
            assert pool.submit(current).result(10) == n
            n = n + 1.0
            n = n + 1.0  # in CPython, the new object is likely to have the address of the one before the last


def test_a_mutable_closure_is_sent_as_it_is_when_submitted() -> None:
    with treadle.Pool(1, engine="processes") as pool:
        config: dict[str, int] = {"x": 0}
        values: list[int] = []

        def current() -> tuple[int, int]:
            return config["x"], len(values)

        for i in range(3):
            config["x"] = i
            assert pool.submit(current).result(10) == (i, len(values))
            values.append(i)


def test_an_object_is_sent_as_it_is_when_submitted() -> None:
    class Adder:
        def __init__(self) -> None:
            self.n = 0

        def __call__(self, x: int) -> int:
            return self.n + x

    adder = Adder()
    with treadle.Pool(1, engine="processes") as pool:
        for adder.n in range(5):
            assert pool.submit(adder, 10).result(10) == 10 + adder.n
            assert pool.submit(adder.__call__, 10).result(10) == 10 + adder.n


def test_arguments_are_pickled_at_the_call() -> None:
    with treadle.Pool(1, engine="processes") as pool:
        pool.submit(time.sleep, 0.1)
        mutable = [1]
        future = pool.submit(work.echo, mutable)
        mutable.append(2)
        assert future.result(10) == (([1],), {})


def test_many_different_functions() -> None:
    with treadle.Pool(2, engine="processes") as pool:
        futures = [pool.submit(lambda i=i: i) for i in range(700)]
        assert [f.result(30) for f in futures] == list(range(700))


@pytest.mark.needs("background")
def test_terminate(pools: MakeExecutor, tmp_path: Path) -> None:
    pool = pools(2)
    running = [pool.submit(work.gate, str(tmp_path / f"s{i}"), str(tmp_path / "never")) for i in range(2)]
    for i in range(2):
        work.until(tmp_path / f"s{i}")
    queued = [pool.submit(work.square, i) for i in range(100)]
    begin = time.monotonic()
    pool.terminate()
    assert time.monotonic() - begin < 1
    for future in running + queued:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(1)
    with contextlib.suppress(FileExistsError):
        work.touch(tmp_path / "never")  # so that abandoned threads end
