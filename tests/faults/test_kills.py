"""kill -9 of workers and of the nursery, time-outs, and tasks that block what waits behind them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import fault_work as work
import pytest
from scripts import alive, wait_for

import treadle
from treadle import Pool, TaskTimeout, WorkerDied
from treadle.pool.launch.client import program

METHODS = ("forkserver", "spawn", "fork")


@contextlib.contextmanager
def killer(pool: Pool, pause: float, count: int | None = None, seed: int = 1) -> Iterator[list[int]]:
    """Kill -9 one of the pool's workers every `pause` seconds, as long as the block runs, or `count` of them."""
    chance = random.Random(seed)
    killed: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause) and (count is None or len(killed) < count):
            pids = [w.pid for w in pool.stats().workers if w.pid is not None and w.pid not in killed]
            if pids:
                pid = chance.choice(pids)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def starts(path: str) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in work.lines(path) if line.startswith("start"))


@pytest.mark.parametrize("method", METHODS)
def test_random_kills_without_retries(method: str, tmp_path: Path) -> None:
    """Exactly the tasks that ran fail; every other one is run once."""
    path = str(tmp_path / "log")
    with Pool(2, engine="processes", start_method=method) as pool:  # type: ignore[arg-type]
        ends: Counter[int] = Counter()
        with killer(pool, 0.08, count=10) as killed:
            futures: list[Future[int]] = [pool.submit(work.logged_sleep, path, i, 0.001) for i in range(2000)]
            for i, future in enumerate(futures):
                future.add_done_callback(lambda f, i=i: ends.update([i]))  # type: ignore[misc]
            wait(futures, 50)
        failed = [i for i, f in enumerate(futures) if f.exception(0) is not None]
        for i in failed:
            error = futures[i].exception()
            assert type(error) is WorkerDied and error.signal == signal.SIGKILL and error.pid in killed
            info = treadle.failure(error)
            assert info is not None and info.item == (path, i, 0.001) and info.pid == error.pid
        assert all(f.result() == i for i, f in enumerate(futures) if i not in failed)
        assert len(killed) == 10 and len(failed) <= 10
        assert ends == Counter(range(2000)), "each future is done once"
        count = starts(path)
        assert all(count[i] == 1 for i in range(2000) if i not in failed), "nothing is run twice"
        assert all(count[i] <= 1 for i in failed)
        finished = {int(line.split()[1]) for line in work.lines(path) if line.startswith("end")}
        assert set(range(2000)) - set(failed) <= finished
        assert pool.submit(work.square, 3).result(10) == 9


def test_random_kills_with_retries(tmp_path: Path) -> None:
    """Every task has its result."""
    path = str(tmp_path / "log")
    with Pool(2, engine="processes") as pool:
        with killer(pool, 0.08, count=10):
            results = list(pool.map(work.logged_sleep, [path] * 2000, range(2000), [0.001] * 2000, retries=20))
        assert results == list(range(2000))
        assert sum(starts(path).values()) <= 2000 + 10, "only what ran is run again"


def test_poison_kills_one_worker_for_one_task() -> None:
    items = ["nothing"] * 1000
    items[400] = "kill"
    begin = time.monotonic()
    with Pool(2, engine="processes") as pool:
        futures = [pool.submit(work.act, item) for item in items]
        errors = {i: f.exception(20) for i, f in enumerate(futures)}
        assert [i for i, e in errors.items() if e is not None] == [400]
        assert type(errors[400]) is WorkerDied
        assert pool.stats().restarts == 1 and pool.stats().failed == 1 and pool.stats().done == 999
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("method", METHODS)
def test_killed_idle_workers_are_replaced_unnoticed(method: str) -> None:
    with Pool(2, engine="processes", start_method=method) as pool:  # type: ignore[arg-type]
        for _ in range(3):
            assert [f.result(20) for f in [pool.submit(work.square, i) for i in range(20)]] == [
                i * i for i in range(20)
            ]
            # The successor of the last round's may still be about to start: the other one has done all the work.
            pids = [worker.pid for worker in pool.stats().workers if worker.pid is not None]
            assert pids
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        # At once, before anybody can have noticed that they are gone.
        assert list(pool.map(work.square, range(50))) == [i * i for i in range(50)]
        assert pool.stats().failed == 0


@pytest.fixture
def new_nursery() -> Iterator[None]:
    """A test that kills the nursery leaves the program without one, not with another one."""
    yield
    program.stop()


@pytest.mark.usefixtures("new_nursery")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_killed_nursery(method: str, tmp_path: Path) -> None:
    """The process in which workers are born dies: what runs fails, and says so; everything else goes on."""
    path = str(tmp_path / "log")
    with Pool(2, engine="processes", start_method=method) as pool:  # type: ignore[arg-type]
        running = [pool.submit(work.gate, str(tmp_path / f"s{i}"), str(tmp_path / "never")) for i in range(2)]
        for i in range(2):
            work.until(tmp_path / f"s{i}")
        queued = [pool.submit(work.logged_sleep, path, i, 0) for i in range(100)]
        pids = [w.pid for w in pool.stats().workers]
        assert program.pid is not None
        begin = time.monotonic()
        os.kill(program.pid, signal.SIGKILL)
        for future in running:
            error = future.exception(5)
            assert type(error) is WorkerDied and error.pid in pids
        assert time.monotonic() - begin < 1
        assert [f.result(20) for f in queued] == list(range(100))
        assert starts(path) == Counter(range(100))
        wait_for(lambda: not any(alive(pid) for pid in pids if pid), 2)


@pytest.mark.usefixtures("new_nursery")
def test_nursery_killed_again_and_again(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    stop = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        done = 0
        while not stop.wait(0.01) and kills < 8:
            pid = program.pid
            if pid is not None and pool.stats().done > done + 60:  # not before it has got going again
                done = pool.stats().done
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1

    with Pool(2, engine="processes") as pool:
        thread = threading.Thread(target=kill)
        thread.start()
        futures = [pool.submit(work.logged_sleep, path, i, 0.002) for i in range(1000)]
        errors = [f.exception(50) for f in futures]
        stop.set()
        thread.join()
        failed = [i for i, e in enumerate(errors) if e is not None]
        assert all(type(errors[i]) is WorkerDied for i in failed)
        assert len(failed) <= 2 * kills, "at most what ran"
        count = starts(path)
        assert {i: n for i, n in count.items() if n != 1} == {}, "nothing is run twice"
        assert set(range(1000)) - set(failed) <= set(count)
        assert kills >= 3


@pytest.mark.usefixtures("new_nursery")
def test_programs_started_by_a_task_end_with_the_nursery(tmp_path: Path) -> None:
    with Pool(1, engine="processes") as pool:
        future = pool.submit(_start_and_wait, str(tmp_path / "pid"))
        wait_for(lambda: work.lines(tmp_path / "pid"), 10)
        child = int(work.lines(tmp_path / "pid")[0])
        assert alive(child) and program.pid is not None
        os.kill(program.pid, signal.SIGKILL)
        assert type(future.exception(5)) is WorkerDied
        try:
            wait_for(lambda: not alive(child), 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _start_and_wait(path: str) -> None:
    import subprocess

    child = subprocess.Popen(["sleep", "1000"])
    work.log(path, str(child.pid))
    child.wait()


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_programs_started_by_a_task_end_with_it(how: str, tmp_path: Path) -> None:
    with Pool(1, engine="processes") as pool:
        timeout = 0.5 if how == "timeout" else None
        future = pool.options(timeout=timeout).submit(_start_and_wait, str(tmp_path / "pid"))
        wait_for(lambda: work.lines(tmp_path / "pid"), 10)
        child = int(work.lines(tmp_path / "pid")[0])
        if how == "kill":
            pid = pool.stats().workers[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        assert type(future.exception(5)) is (TaskTimeout if how == "timeout" else WorkerDied)
        wait_for(lambda: not alive(child), 2)


# -- time-outs


@pytest.mark.parametrize("mode", ["sleep", "c", "signals", "catches"])
def test_a_hanging_item_ends_in_time(mode: str, tmp_path: Path) -> None:
    """Within 100 ms of its time-out, also in C code that holds the interpreter lock; its neighbours don't notice."""
    limit = 0.3
    with Pool(2, engine="processes") as pool:
        pool.submit(work.square, 1).result(20)
        before = [pool.submit(work.square, i) for i in range(50)]
        future = pool.options(timeout=limit).submit(work.hang_in_mode, mode, str(tmp_path / "runs"))
        behind = [pool.submit(work.square, i) for i in range(50)]
        work.until(tmp_path / "runs")
        begun = time.monotonic()
        error = future.exception(10)
        took = time.monotonic() - begun
        assert type(error) is TaskTimeout and error.timeout == limit
        assert took < limit + 0.1, f"{took:.3f} s"
        assert [f.result(20) for f in before + behind] == [i * i for i in range(50)] * 2


def test_three_hang_among_forty(tmp_path: Path) -> None:
    items = ["nothing"] * 40
    for i in (5, 6, 30):
        items[i] = "hang"
    begin = time.monotonic()
    got = list(treadle.map(work.act, items, engine="processes", workers=2, timeout=0.4, on_error="return"))
    assert time.monotonic() - begin < 3
    assert [i for i, x in enumerate(got) if isinstance(x, TaskTimeout)] == [5, 6, 30]
    assert sum(x is None for x in got) == 37


def test_a_timeout_blames_nobody_else() -> None:
    """Tasks that end right about when their time is over: each has its result or its time-out, and no other error."""
    with Pool(2, engine="processes") as pool:
        tight = pool.options(timeout=0.02)
        futures = [tight.submit(work.spin, 0.0005 if i % 10 else 0.02) for i in range(400)]
        loose = [pool.submit(work.square, i) for i in range(400)]
        errors = [f.exception(30) for f in futures]
        assert {type(e) for e in errors} <= {type(None), TaskTimeout}
        assert [f.result(20) for f in loose] == [i * i for i in range(400)]


def test_a_thread_over_time_is_abandoned(tmp_path: Path) -> None:
    with Pool(1, engine="threads") as pool:
        future = pool.options(timeout=0.2).submit(work.gate, str(tmp_path / "s"), str(tmp_path / "go"), 5)
        behind = [pool.submit(work.square, i) for i in range(20)]
        work.until(tmp_path / "s")
        begun = time.monotonic()
        assert type(future.exception(10)) is TaskTimeout
        assert time.monotonic() - begun < 0.3
        assert [f.result(10) for f in behind] == [i * i for i in range(20)]
        work.touch(tmp_path / "go")


# -- nobody waits behind a stuck one


@pytest.mark.parametrize("after", [0, 1, 300])
def test_tiny_tasks_move_on_when_one_is_stuck(after: int, tmp_path: Path) -> None:
    """A long task in front of (or amid) tiny ones that were given to the same worker with it."""
    with Pool(2, engine="processes") as pool:
        assert len(list(pool.map(work.square, range(3000)))) == 3000  # now it knows that they are tiny
        tiny = [pool.submit(work.square, i) for i in range(after)]
        stuck = pool.submit(work.gate, str(tmp_path / "s"), str(tmp_path / "go"), "long")
        tiny += [pool.submit(work.square, i) for i in range(after, 1500)]
        begin = time.monotonic()
        assert [f.result(10) for f in tiny] == [i * i for i in range(1500)]
        assert time.monotonic() - begin < 2
        assert not stuck.done()
        work.touch(tmp_path / "go")
        assert stuck.result(10) == "long"


def test_stuck_ones_take_no_hostages_at_shutdown(tmp_path: Path) -> None:
    pool = Pool(2, engine="processes")
    list(pool.map(work.square, range(3000)))
    stuck = pool.submit(work.gate, str(tmp_path / "s"), str(tmp_path / "go"), "long")
    tiny = [pool.submit(work.square, i) for i in range(1500)]
    pool.shutdown(wait=False)
    assert [f.result(10) for f in tiny] == [i * i for i in range(1500)]
    work.touch(tmp_path / "go")
    assert stuck.result(10) == "long"
    pool.shutdown()


def test_a_task_that_waits_for_one_queued_behind_it(tmp_path: Path) -> None:
    """With two workers both can run, whatever else was thought when they were handed out."""
    with Pool(2, engine="processes") as pool:
        list(pool.map(work.square, range(3000)))
        for i in range(20):
            waits = pool.submit(work.until, str(tmp_path / f"made-{i}"), 10)
            makes = pool.submit(work.touch, str(tmp_path / f"made-{i}"))
            assert makes.result(10) is None and waits.result(10) is None


def test_revoked_tasks_run_once(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with Pool(2, engine="processes") as pool:
        list(pool.map(work.square, range(3000)))
        futures = [pool.submit(work.logged_sleep, path, i, 0.06 if i % 100 == 0 else 0) for i in range(600)]
        assert [f.result(30) for f in futures] == list(range(600))
    assert starts(path) == Counter(range(600))


# -- large things and sudden ends


def test_killed_while_it_writes_a_large_result(tmp_path: Path) -> None:
    size = 100_000_000
    chance = random.Random(7)
    outcomes: Counter[str] = Counter()
    with Pool(1, engine="processes") as pool:
        for i in range(6):
            mark = str(tmp_path / f"now-{i}")
            future = pool.submit(work.say_and_give, mark, size)
            behind = pool.submit(work.square, i)
            work.until(mark)
            pid = pool.stats().workers[0].pid
            moment = time.monotonic() + chance.uniform(0, 0.12)
            while time.monotonic() < moment and not future.done():
                pass
            with contextlib.suppress(ProcessLookupError):
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            error = future.exception(20)
            if error is None:
                assert future.result() == b"x" * size, "all of it, or an error"
                outcomes["result"] += 1
            else:
                assert type(error) is WorkerDied and error.pid == pid
                outcomes["died"] += 1
            assert behind.result(20) == i * i
            del future
    assert outcomes["died"] >= 1, outcomes


def test_killed_while_it_reads_a_large_argument() -> None:
    """It has not started: the next worker gets it, and nobody is blamed."""
    blob = b"x" * 100_000_000
    with Pool(1, engine="processes") as pool:
        pool.submit(work.square, 1).result(10)
        for _ in range(3):
            pid = pool.stats().workers[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            future = pool.submit(work.size_of, blob)  # the pipe takes some of it, and nobody reads
            os.kill(pid, signal.SIGKILL)
            assert future.result(20) == len(blob)
        assert pool.stats().failed == 0


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_result_of_a_gigabyte() -> None:
    with Pool(1, engine="processes") as pool:
        assert len(pool.submit(work.large, 1 << 30).result(200)) == 1 << 30
        assert pool.submit(work.square, 3).result(20) == 9


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_an_argument_of_a_gigabyte() -> None:
    with Pool(1, engine="processes") as pool:
        assert pool.submit(work.size_of, b"x" * (1 << 30)).result(200) == 1 << 30


def test_a_large_argument_to_a_busy_worker_blocks_nobody(tmp_path: Path) -> None:
    """The pipe of one worker is full; the others get their tasks."""
    blob = b"x" * 20_000_000
    with Pool(2, engine="processes") as pool:
        busy = pool.submit(work.gate, str(tmp_path / "s"), str(tmp_path / "go"))
        work.until(tmp_path / "s")
        larges = [pool.submit(work.size_of, blob) for _ in range(4)]
        assert [f.result(20) for f in larges] == [len(blob)] * 4
        assert not busy.done()
        work.touch(tmp_path / "go")
        busy.result(10)


def test_what_a_task_does_to_its_process() -> None:
    """Closed descriptors, changed folders, signal handlers, a fork that comes back: that task's trouble alone."""
    with Pool(1, engine="processes") as pool:
        for fn in (_close_everything, _change_everything, _fork_and_return):
            future = pool.options(timeout=5).submit(fn)
            error = future.exception(10)
            assert error is None or isinstance(error, (WorkerDied, OSError)), error
            assert [f.result(10) for f in [pool.submit(work.square, i) for i in range(50)]] == [
                i * i for i in range(50)
            ]


def _close_everything() -> None:
    os.closerange(3, 1000)


def _change_everything() -> None:
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()


def _fork_and_return() -> int:
    return os.fork()


@pytest.mark.parametrize("ends", ["returns", "exits"])
def test_a_thread_that_a_task_leaves_behind(ends: str) -> None:
    """It is not waited for without end, neither by who leaves nor by who wants the result."""
    begin = time.monotonic()
    with Pool(1, engine="processes") as pool:
        future = pool.submit(_leave_a_thread, ends)
        error = future.exception(15)
        assert error is None if ends == "returns" else type(error) is WorkerDied and error.exitcode == 3
    assert time.monotonic() - begin < 15


def _leave_a_thread(ends: str) -> Any:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    if ends == "exits":
        raise SystemExit(3)


def test_recycled_pids_of_pools() -> None:
    """Pools come and go while others work."""
    with Pool(1, engine="processes") as steady:
        futures = [steady.submit(work.spin, 0.02) for _ in range(30)]
        for i in range(30):
            with Pool(1, engine="processes") as passing:
                assert passing.submit(work.square, i).result(10) == i * i
        assert [f.result(20) for f in futures] == [0.02] * 30


def test_unread_infinite_map_with_kills() -> None:
    """An endless map outlives its workers."""
    with Pool(2, engine="processes") as pool:
        results = pool.map(work.square, itertools.count(), retries=5)
        with killer(pool, 0.02, count=5) as killed:
            for i in range(1500):
                assert next(results) == i * i
            wait_for(lambda: len(killed) == 5 or next(results) is None, 20)
        results.close()
