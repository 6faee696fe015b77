"""What a pool does for its tasks: retries, time-outs, memory, recycling, cancelling, priorities, leaving when idle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from pathlib import Path
from typing import Any

import behaviour_work as work
import pytest
from engine_work import engines
from patience import until

import treadle

ENGINES = engines("threads", "processes", "interpreters", "dask", "ray", by_hand=("ray",))


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Has the process ended, or does it within so many seconds?"""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.005)
    return False


# -- retries


@pytest.mark.parametrize("engine", [*ENGINES, "auto", "inline"])
def test_a_filter_by_type_and_by_function(engine: Any, tmp_path: Path) -> None:
    def is_first(error: BaseException) -> bool:
        return str(error) == "call 1"

    folders = [tmp_path / str(n) for n in range(4)]
    for each in folders:
        each.mkdir()
    with treadle.Pool(1, engine) as pool:
        some = pool.options(retries=3, retry_on=OSError)
        assert some.submit(work.fail_until, str(folders[0]), 2).result(30) == 3
        with pytest.raises(ValueError, match="call 1"):
            some.submit(work.fail_until, str(folders[1]), 2, "value").result(30)
        both = pool.options(retries=3, retry_on=(OSError, ValueError))
        assert both.submit(work.fail_until, str(folders[2]), 2, "value").result(30) == 3
        with pytest.raises(OSError, match="call 2"):
            pool.options(retries=3, retry_on=is_first).submit(work.fail_until, str(folders[3]), 5).result(30)


@pytest.mark.parametrize(
    ("how", "error"),
    [("dies", treadle.WorkerDied), ("hangs", treadle.TaskTimeout), ("memory", treadle.MemoryLimitExceeded)],
)
def test_what_the_pool_raises_itself_is_filtered_too(how: str, error: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"timeout": 1.0} if how == "hangs" else {}
    if how == "memory":
        options = {"memory_limit": 50 << 20}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with treadle.Pool(1, "processes") as pool:
        task = pool.options(retries=1, retry_on=error, **options)
        assert task.submit(work.fail_until, str(tmp_path / "a"), 1, how).result(30) == 2
        with pytest.raises(error):
            task.options(retry_on=KeyError).submit(work.fail_until, str(tmp_path / "b"), 1, how).result(30)


def test_a_filter_that_raises_is_reported_and_the_task_fails_as_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(error: BaseException) -> bool:
        raise KeyError("the filter")

    with treadle.Pool(1, "threads") as pool:
        with pytest.raises(OSError, match="call 1"):
            pool.options(retries=3, retry_on=broken).submit(work.fail_until, str(tmp_path), 2).result(30)
    assert "the filter" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ENGINES)
def test_who_waits_for_a_retry_occupies_no_worker(engine: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, engine) as pool:
        start = time.monotonic()
        future = pool.options(retries=2, backoff=0.2).submit(work.fail_until, str(tmp_path), 2)
        until(lambda: pool.stats().retrying == 1)
        assert pool.submit(abs, -3).result(30) == 3  # the only worker is free
        assert pool.stats().queued == 0 and not future.done()
        assert future.result(30) == 3
        assert time.monotonic() - start >= 0.1 + 0.2  # half of 0.2 and of 0.4, at least
        assert pool.stats().retrying == 0


def test_a_waiting_retry_is_finished_dropped_or_cancelled(tmp_path: Path) -> None:
    for name in ("finish", "drop", "cancel", "kill"):
        (tmp_path / name).mkdir()
    with treadle.Pool(1, "threads") as pool:  # leaving the block finishes it
        future = pool.options(retries=1, backoff=0.1).submit(work.fail_until, str(tmp_path / "finish"), 1)
        until(lambda: pool.stats().retrying == 1 or future.done())
    assert future.result(0) == 2
    pool = treadle.Pool(1, "threads")
    future = pool.options(retries=1, backoff=60).submit(work.fail_until, str(tmp_path / "cancel"), 1)
    until(lambda: pool.stats().retrying == 1)
    assert future.cancel() and future.cancelled() and pool.stats().retrying == 0
    future = pool.options(retries=1, backoff=60).submit(work.fail_until, str(tmp_path / "drop"), 1)
    until(lambda: pool.stats().retrying == 1)
    pool.shutdown(cancel_futures=True)
    assert future.cancelled()
    pool = treadle.Pool(1, "processes")
    future = pool.options(retries=1, backoff=60).submit(work.fail_until, str(tmp_path / "kill"), 1)
    until(lambda: pool.stats().retrying == 1)
    pool.terminate()
    assert future.cancelled()


# -- time-outs


@pytest.mark.parametrize("stuck", [work.stuck_in_c, work.stuck_in_a_loop])
def test_a_time_out_ends_what_is_stuck_in_c(stuck: Any) -> None:
    with treadle.Pool(1, "processes") as pool:
        start = time.monotonic()
        with pytest.raises(treadle.TaskTimeout):
            pool.options(timeout=0.3).submit(stuck).result(30)
        assert time.monotonic() - start < 5
        assert pool.submit(abs, -3).result(30) == 3


def test_batch_mates_of_one_that_is_over_time_are_not_blamed() -> None:
    with treadle.Pool(1, "processes") as pool:
        assert list(pool.map(abs, range(2000))) == list(range(2000))  # so it knows that they are short
        results = list(pool.map(work.mixed, range(60), timeout=0.5, on_error="return"))
    assert [r for r in results if not isinstance(r, treadle.TaskTimeout)] == [n for n in range(60) if n != 25]
    assert isinstance(results[25], treadle.TaskTimeout)
    assert treadle.failure(results[25]).attempts == 1  # type: ignore[union-attr]


# -- workers that leave


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("most", [1, 3])
def test_a_worker_leaves_after_so_many_tasks(engine: Any, most: int) -> None:
    with treadle.Pool(2, engine, max_tasks_per_worker=most) as pool:
        kinds = {"threads": lambda _: threading.current_thread(), "interpreters": work.thread}
        which = kinds.get(engine, work.pid)
        seen = list(pool.map(which, range(20)))
        assert len(seen) == 20
        assert max(seen.count(each) for each in seen) <= most
        assert pool.stats().restarts == 0  # they were not lost, they left


def test_a_worker_that_has_grown_leaves_and_nothing_is_lost() -> None:
    with treadle.Pool(1, "processes", max_memory_per_worker=120 << 20) as pool:
        pids = list(pool.map(work.hold, [10] * 40))
        assert 3 <= len(set(pids)) <= 8, pids
        assert max(pids.count(each) for each in pids) <= 14
        assert pool.stats().restarts == 0


def test_idle_workers_leave_and_come_back() -> None:
    with treadle.Pool(2, "processes", idle_timeout=0.2) as pool:
        first = pool.submit(work.pid).result(30)
        until(lambda: not pool.stats().workers)
        assert gone(first)
        assert pool.submit(work.pid).result(30) != first
    with treadle.Pool(3, "threads", idle_timeout=0.2) as pool:
        assert list(pool.map(time.sleep, [0.02] * 6)) == [None] * 6
        until(lambda: len(pool.stats().workers) == 1)  # the last thread stays


def test_a_worker_with_work_now_and_then_stays() -> None:
    with treadle.Pool(1, "processes", idle_timeout=0.4) as pool:
        pids = set()
        for _ in range(20):
            pids.add(pool.submit(work.pid).result(30))
            time.sleep(0.05)  # shorter than the time-out, all of them together longer
        assert len(pids) == 1


# -- memory


@pytest.mark.parametrize("how", ["at once", "step by step", "in C", "shared", "in a child", "result"])
def test_a_task_above_its_memory_limit_fails_alone(how: str) -> None:
    with treadle.Pool(1, "processes") as pool:
        limited = pool.options(memory_limit=100 << 20)
        with pytest.raises(treadle.MemoryLimitExceeded) as caught:
            limited.submit(work.allocate, how, 90 if how == "result" else 400).result(60)
        assert isinstance(caught.value, MemoryError)
        assert caught.value.limit == 100 << 20
        assert limited.submit(work.allocate, "at once", 50).result(30) == 50 << 20
        assert pool.submit(work.allocate, "at once", 400).result(30) == 400 << 20  # the bound holds for the task alone


def test_what_threads_cannot_keep_is_said_at_the_call() -> None:
    with treadle.Pool(1, "threads") as pool:
        with pytest.raises(ValueError, match="memory_limit, which needs processes"):
            pool.options(memory_limit=1 << 20)
        with pytest.raises(ValueError, match="memory_limit, which needs processes"):
            pool.map(abs, [1], memory_limit=1 << 20)
    with pytest.raises(ValueError, match="memory_limit, which needs processes"):
        treadle.map(abs, [1], engine="threads", memory_limit=1 << 20)
    with pytest.raises(ValueError, match="max_memory_per_worker, which needs processes"):
        treadle.Pool(1, "threads", max_memory_per_worker=1 << 30)


def test_auto_takes_processes_where_only_they_will_do() -> None:
    with treadle.Pool(1, max_memory_per_worker=1 << 30) as pool:
        assert pool.decision is not None and pool.decision.engine == "processes"
        assert pool.submit(work.pid).result(30) != os.getpid()
    with treadle.Pool(1) as pool:
        assert pool.options(memory_limit=1 << 30).submit(work.pid).result(30) != os.getpid()
        assert pool.decision is not None and pool.decision.engine == "processes"


# -- cancelling


def test_cancelling_a_running_future_ends_it(tmp_path: Path) -> None:
    with treadle.Pool(1, "processes") as pool:
        future = pool.submit(work.begin_and_wait, str(tmp_path / "pid"))
        behind = [pool.submit(abs, -n) for n in range(5)]
        pid = int(work.wait_for(str(tmp_path / "pid")))
        assert future.running()
        assert future.cancel()
        assert future.cancelled() and future.done() and not future.running()
        assert gone(pid)
        assert [each.result(30) for each in behind] == list(range(5))
        stats = pool.stats()
        assert (stats.cancelled, stats.failed) == (1, 0)


def test_from_another_thread_and_while_somebody_waits(tmp_path: Path) -> None:
    with treadle.Pool(1, "processes") as pool:
        future = pool.submit(work.begin_and_wait, str(tmp_path / "pid"))
        pid = int(work.wait_for(str(tmp_path / "pid")))
        thread = threading.Thread(target=future.cancel)
        thread.start()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(30)
        thread.join()
        assert gone(pid)


def test_those_in_the_same_batch_move_on() -> None:
    with treadle.Pool(1, "processes") as pool:
        assert list(pool.map(abs, range(2000))) == list(range(2000))  # so batches are large
        head = pool.submit(time.sleep, 30)
        rest = [pool.submit(abs, -n) for n in range(50)]
        assert rest[20].cancel()  # given to the worker or not: it never runs
        until(head.running)
        assert head.cancel()
        assert [f.result(30) for n, f in enumerate(rest) if n != 20] == [n for n in range(50) if n != 20]
        assert rest[20].cancelled()


def test_a_thread_goes_on_and_so_does_everything_where_the_standard_meaning_is_wanted(tmp_path: Path) -> None:
    release = threading.Event()
    with treadle.Pool(1, "threads") as pool:
        future = pool.submit(release.wait, 30)
        until(future.running)
        assert not future.cancel() and future.running()
        release.set()
        assert future.result(30) is True
    with treadle.Pool(1, "processes") as pool:
        pool.driver.cancel_running = False
        future = pool.submit(work.begin_and_wait, str(tmp_path / "pid"))
        work.wait_for(str(tmp_path / "pid"))
        assert not future.cancel() and future.running()
        pool.driver.cancel_running = True
        assert future.cancel()


@pytest.mark.parametrize("how", ["asubmit", "wrap_future", "amap"])
def test_cancelling_an_asyncio_task_ends_what_it_waits_for(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "pid")

    async def wait(pool: treadle.Pool) -> None:
        if how == "asubmit":
            await pool.asubmit(work.begin_and_wait, path)
        elif how == "wrap_future":
            await asyncio.wrap_future(pool.submit(work.begin_and_wait, path))
        else:
            async for _ in pool.amap(work.begin_and_wait, [path]):
                pass

    async def main() -> int:
        with treadle.Pool(1, "processes") as pool:
            task = asyncio.create_task(wait(pool))
            while not Path(path).exists():
                await asyncio.sleep(0.005)
            pid = int(Path(path).read_text())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await pool.asubmit(abs, -3) == 3
        return pid

    assert gone(asyncio.run(main()))


# -- priorities, and pools in pools


@pytest.mark.parametrize("engine", ENGINES)
def test_the_more_urgent_first_and_first_come_within_one(engine: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with treadle.Pool(1, engine) as pool:
        head = pool.submit(work.wait_for, str(gate))
        until(head.running)
        futures = [
            pool.options(priority=rank).submit(work.log, str(tmp_path), name)
            for name, rank in [("a", 0), ("b", -1), ("c", 5), ("d", 0), ("e", 5), ("f", 7)]
        ]
        gate.touch()
        for future in futures:
            future.result(30)
    assert (tmp_path / "log").read_text().split() == ["f", "c", "e", "a", "d", "b"]


def test_pools_in_workers_work_and_end_with_them(tmp_path: Path) -> None:
    with treadle.Pool(2, "processes") as pool:
        assert list(pool.map(work.inner, [10, 20, 30])) == [45, 190, 435]
        with pytest.raises(treadle.WorkerDied):
            pool.submit(work.inner_and_die, str(tmp_path / "pid")).result(60)
    assert gone(int((tmp_path / "pid").read_text()))
