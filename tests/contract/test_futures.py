"""treadle.futures beyond the executors' contract in test_executor.py, which it runs through as well."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.thread import BrokenThreadPool
from pathlib import Path
from typing import Any

import futures_work as work
import pytest

import treadle
from treadle import futures, multiprocessing

BOTH = pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])


def until(path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.002)


# -- the same names, the same signatures


def test_every_name_is_there() -> None:
    for name in concurrent.futures.__all__:
        assert hasattr(futures, name), name
        assert name in futures.__all__
    from treadle.futures import process, thread

    for ours, theirs in ((thread, concurrent.futures.thread), (process, concurrent.futures.process)):
        for name in dir(theirs):
            assert hasattr(ours, name), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = futures.nonsense


@BOTH
def test_signatures(kind: str) -> None:
    ours, theirs = getattr(futures, kind), getattr(concurrent.futures, kind)
    assert issubclass(ours, theirs)

    def names(of: Any) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(of).parameters.values()]

    expected = names(theirs.__init__)
    mine = names(ours.__init__)
    assert [each for each in expected if each[1] is not inspect.Parameter.VAR_KEYWORD] == mine
    assert names(ours.submit) == names(theirs.submit)
    assert names(ours.shutdown) == names(theirs.shutdown)
    assert {name for name, _, _ in names(theirs.map)} <= {name for name, _, _ in names(ours.map)}
    assert "buffersize" in inspect.signature(ours.map).parameters


# -- one crash, one call


def test_a_crash_fails_one_call_and_the_executor_goes_on() -> None:
    with futures.ProcessPoolExecutor(2) as executor:
        calls = [executor.submit(work.die_on_three, i) for i in range(10)]
        failed = [i for i, call in enumerate(calls) if call.exception(20) is not None]
        assert failed == [3]
        with pytest.raises(BrokenProcessPool) as caught:
            calls[3].result()
        assert type(caught.value) is treadle.WorkerDied and caught.value.exitcode == -9
        assert isinstance(caught.value, futures.BrokenExecutor)
        assert executor.submit(work.square, 5).result(20) == 25
        assert not executor._shutdown


def test_what_can_not_be_loaded_is_a_broken_pool_for_its_call() -> None:
    with futures.ProcessPoolExecutor(1) as executor:
        with pytest.raises(BrokenProcessPool) as caught:
            executor.submit(work.square, work.Unloadable()).result(20)
        assert isinstance(caught.value, treadle.TaskNotLoadable)
        with pytest.raises(BrokenProcessPool) as caught:
            executor.submit(work.Unloadable).result(20)
        assert isinstance(caught.value, treadle.ResultNotLoadable)
        assert executor.submit(work.square, 3).result(20) == 9


@BOTH
def test_initializer(kind: str) -> None:
    with getattr(futures, kind)(1, initializer=work.keep, initargs=("ready",)) as executor:
        assert executor.submit(work.kept).result(20)[-1] == "ready"


@BOTH
def test_an_initializer_that_fails(kind: str) -> None:
    with getattr(futures, kind)(2, initializer=work.refuse) as executor:
        error = executor.submit(work.square, 2).exception(20)
    assert isinstance(error, treadle.WorkerStartError)
    assert isinstance(error, BrokenThreadPool if kind.startswith("Thread") else BrokenProcessPool)
    assert isinstance(error.__cause__, LookupError)


@BOTH
def test_sys_exit_is_the_calls_exception(kind: str) -> None:
    with getattr(futures, kind)(1) as executor:
        with pytest.raises(SystemExit) as caught:
            executor.submit(work.leave, 7).result(20)
        assert caught.value.code == 7
        assert executor.submit(work.square, 3).result(20) == 9


def test_max_tasks_per_child() -> None:
    with futures.ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result(20) for _ in range(6)]
    assert pids[0] == pids[1] and pids[2] == pids[3] and len(set(pids)) == 3
    with pytest.raises(ValueError):
        futures.ProcessPoolExecutor(1, max_tasks_per_child=0)
    with pytest.raises(TypeError):
        futures.ProcessPoolExecutor(1, max_tasks_per_child="2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fork"):
        futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork"), max_tasks_per_child=2)


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_mp_context(method: str) -> None:
    import multiprocessing as stdlib

    for module in (stdlib, multiprocessing):
        with futures.ProcessPoolExecutor(1, mp_context=module.get_context(method)) as executor:
            assert executor.submit(work.square, 4).result(20) == 16
            assert executor._mp_context.get_start_method() == method


def test_locks_of_treadle_reach_an_initializer() -> None:
    lock = multiprocessing.Lock()
    with futures.ProcessPoolExecutor(1, initializer=work.keep, initargs=(lock,)) as executor:
        with lock:
            assert executor.submit(work.kept).result(20)[-1].acquire(timeout=0) is False


# -- cancel, terminate, kill


@BOTH
def test_a_running_call_is_not_cancelled(kind: str, tmp_path: Path) -> None:
    with getattr(futures, kind)(1) as executor:
        call = executor.submit(work.say_and_sleep, tmp_path / "started", 0.2)
        until(tmp_path / "started")
        assert not call.cancel() and not call.cancelled()
        assert isinstance(call.result(20), int)


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(how: str, tmp_path: Path) -> None:
    executor = futures.ProcessPoolExecutor(1)
    running = executor.submit(work.say_and_sleep, tmp_path / "started", 60)
    until(tmp_path / "started")
    waiting = executor.submit(work.square, 2)
    (process,) = executor._processes.values()
    assert process.is_alive()
    getattr(executor, how)()
    with pytest.raises(BrokenProcessPool) as caught:
        running.result(20)
    assert caught.value.exitcode == (-15 if how == "terminate_workers" else -9)  # type: ignore[attr-defined]
    assert waiting.cancelled()
    process.join(20)
    assert not process.is_alive()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(work.square, 2)
    executor.shutdown()
    getattr(executor, how)()  # nobody is left; no error


# -- nested waits starve nobody


def test_a_worker_may_wait_for_its_own_executor() -> None:
    with futures.ThreadPoolExecutor(1) as executor:

        def outer(how: Callable[[list[Any]], Any]) -> int:
            calls = [executor.submit(work.square, i) for i in range(5)]
            how(calls)
            return sum(call.result() for call in calls)

        for how in (
            lambda calls: futures.wait(calls),
            lambda calls: futures.wait(calls, return_when=futures.FIRST_COMPLETED),
            lambda calls: futures.wait(calls, return_when=futures.FIRST_EXCEPTION),
            lambda calls: list(futures.as_completed(calls)),
            lambda calls: list(executor.map(work.square, range(5))),
        ):
            assert executor.submit(outer, how).result(20) == 30


def test_wait_and_as_completed_take_any_future() -> None:
    plain: futures.Future[int] = futures.Future()
    with futures.ThreadPoolExecutor(1) as executor:
        call = executor.submit(work.square, 3)
        done, pending = futures.wait([plain, call], return_when=futures.FIRST_COMPLETED)
        assert (done, pending) == ({call}, {plain})
        done, pending = futures.wait([plain], timeout=0.15)
        assert (done, pending) == (set(), {plain})
        with pytest.raises(TimeoutError):
            list(futures.as_completed([plain, call], timeout=0.05))
        plain.set_exception(ValueError())
        done, pending = futures.wait([plain, call], return_when=futures.FIRST_EXCEPTION)
        assert not pending and len(done) == 2
        assert set(futures.as_completed([plain, call, call])) == {plain, call}
        with pytest.raises(ValueError):
            futures.wait([plain, futures.Future()], return_when="whenever")


# -- map


def test_map_reads_all_at_once_or_as_much_as_is_wanted() -> None:
    with futures.ThreadPoolExecutor(2) as executor:
        inputs = iter(range(10))
        executor.map(work.square, inputs)
        assert next(inputs, None) is None
        inputs = itertools.count()
        results = executor.map(work.square, inputs, buffersize=3)
        assert next(inputs) == 3
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        assert next(inputs) == 7
        results.close()
        assert next(results, None) is None
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                executor.map(work.square, [], buffersize=wrong)
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.map(work.square, [], buffersize=2.0)  # type: ignore[arg-type]
        assert list(executor.map(work.square, [3], chunksize=0)) == [9], "threads take no notice of it, as ever"
    with futures.ProcessPoolExecutor(1) as processes, pytest.raises(ValueError, match="chunksize"):
        processes.map(work.square, [], chunksize=0)


def test_map_is_over_after_an_error_and_cancels_the_rest(tmp_path: Path) -> None:
    with futures.ThreadPoolExecutor(1) as executor:
        go = threading.Event()
        ran: list[int] = []

        def call(x: int) -> int:
            ran.append(x)
            if x == 0:
                raise StopIteration
            go.wait(20)
            return x

        results = executor.map(call, range(20))
        with pytest.raises(RuntimeError):  # a StopIteration would look like the end
            next(results)
        go.set()
        assert list(results) == []
    assert len(ran) < 20


def test_map_times_out() -> None:
    go = threading.Event()
    with futures.ThreadPoolExecutor(1) as executor:
        begin = time.monotonic()
        results = executor.map(lambda x: go.wait(20), range(3), timeout=0.1)
        with pytest.raises(TimeoutError):
            next(results)
        assert time.monotonic() - begin < 10
        go.set()


def test_map_holds_no_result_that_was_read() -> None:
    class Thing:
        pass

    with futures.ThreadPoolExecutor(2) as executor:
        results = executor.map(lambda x: Thing(), range(5))
        for thing in results:
            ref = weakref.ref(thing)
            del thing
            end = time.monotonic() + 10
            while ref() is not None:  # the thread that made it may be about to forget it
                gc.collect()
                assert time.monotonic() < end, gc.get_referrers(ref())


def test_lengths_for_progress_displays() -> None:
    with futures.ThreadPoolExecutor(2) as executor:
        results = executor.map(work.square, range(7))
        assert len(results) == 7 and bool(results) and list(results) == [i * i for i in range(7)]
        calls = [executor.submit(work.square, i) for i in range(4)]
        assert len(futures.as_completed(calls)) == 4
        with pytest.raises(TypeError):
            len(executor.map(work.square, range(7), buffersize=2))


def test_tqdm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed").tqdm
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread would look like a leak
    tqdm.set_lock(threading.RLock())  # so would the semaphore that it keeps
    with futures.ProcessPoolExecutor(2) as executor:
        assert list(tqdm(executor.map(work.square, range(9), chunksize=3))) == [i * i for i in range(9)]
        calls = [executor.submit(work.square, i) for i in range(8)]
        assert sorted(call.result() for call in tqdm(futures.as_completed(calls))) == [i * i for i in range(8)]
    shown = capsys.readouterr().err
    assert "9/9" in shown and "8/8" in shown, "it knows the total without being told"


# -- asyncio


def test_default_executor_of_a_loop() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(futures.ThreadPoolExecutor(2, "default"))
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert name.startswith("default_")
        return await asyncio.gather(*(loop.run_in_executor(None, work.square, i) for i in range(10)))

    assert asyncio.run(main()) == [i * i for i in range(10)]  # `run` shuts the executor down


# -- ends


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40)


@BOTH
def test_leaving_the_program_finishes_the_work(kind: str) -> None:
    done = run(
        f"import time\nfrom treadle.futures import {kind}\n"
        f"def late(x): time.sleep(0.3); print('done', x, flush=True)\n"
        f"executor = {kind}(1)\n[executor.submit(late, i) for i in range(2)]\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 0\ndone 1\n", "")


def test_bad_numbers_of_workers() -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            futures.ThreadPoolExecutor(wrong)
    with pytest.raises(TypeError):
        futures.ThreadPoolExecutor("2")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        futures.ThreadPoolExecutor(1, initializer=3)  # type: ignore[arg-type]


def test_names_of_threads() -> None:
    with futures.ThreadPoolExecutor(1, "special") as executor:
        assert executor.submit(lambda: threading.current_thread().name).result(20) == "special_0"
        assert [thread.name for thread in executor._threads] == ["special_0"]
    with futures.ThreadPoolExecutor(1) as executor:
        assert executor.submit(lambda: threading.current_thread().name).result(20).startswith("ThreadPoolExecutor-")


def test_cancelling_what_asyncio_waits_for_ends_the_call(tmp_path: Path) -> None:
    """It would keep its worker, and whoever leaves the block, for as long as it runs."""

    async def run(executor: futures.ProcessPoolExecutor) -> None:
        waits = asyncio.get_running_loop().run_in_executor(executor, work.say_and_sleep, tmp_path / "runs", 60)
        await asyncio.to_thread(until, tmp_path / "runs")
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert await asyncio.get_running_loop().run_in_executor(executor, work.square, 3) == 9

    start = time.monotonic()
    with futures.ProcessPoolExecutor(1) as executor:
        asyncio.run(run(executor))
        running = executor.submit(work.say_and_sleep, tmp_path / "again", 0.2)
        until(tmp_path / "again")
        assert not running.cancel() and isinstance(running.result(20), int), "it has the standard library's word"
    assert time.monotonic() - start < 50


def test_one_ctrl_c_ends_an_asyncio_program(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        """
import asyncio, sys, pathlib, futures_work as work
from treadle import futures
async def main():
    with futures.ProcessPoolExecutor(1) as executor:
        await asyncio.get_running_loop().run_in_executor(executor, work.say_and_sleep, pathlib.Path(sys.argv[1]), 300)
asyncio.run(main())
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(path), str(tmp_path / "runs")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as program:
        until(tmp_path / "runs")
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
