"""`initializer`: once in each worker, before its first task; and what becomes of one that fails."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from engine_work import engines
from initializer_work import fail, recall, remember

import treadle
from treadle.errors import RemoteTraceback

ENGINES = engines("threads", "processes", "auto", "inline", "interpreters", "dask", "ray", by_hand=("ray",))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_runs_once_in_each_worker_before_its_first_task(engine: Any) -> None:
    with treadle.Pool(2, engine, initializer=remember, initargs=("hello",)) as pool:
        assert set(pool.map(recall, range(50))) == {("hello", 1)}


def test_a_closure_will_do() -> None:
    value = 17
    with treadle.Pool(1, "processes", initializer=lambda: remember(value)) as pool:
        assert pool.submit(recall).result() == (17, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_raises_fails_what_waits_and_says_what_it_raised(engine: Any) -> None:
    with treadle.Pool(2, engine, initializer=fail, initargs=("raises",)) as pool:
        futures = [pool.submit(recall) for _ in range(3)]
        for future in futures:
            with pytest.raises(treadle.WorkerStartError, match="its initializer, fail, raised") as caught:
                future.result(30)
            assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
            cause = caught.value.__cause__
            assert isinstance(cause, ValueError) and str(cause) == "error in initializer"
            if isinstance(cause.__cause__, RemoteTraceback):
                assert "in fail" in str(cause.__cause__)
            else:
                assert cause.__traceback__ is not None
        with pytest.raises(treadle.WorkerStartError):  # nor does it hang later
            pool.submit(recall).result(30)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exits", "exited with code 3 before its initializer, fail, returned"),
        ("ends", "exited with code 4 before"),
        ("is killed", "was killed by SIGKILL before"),
        ("crashes", "was killed by SIGSEGV before"),
        ("hangs", "its initializer, fail, did not return within 0.5 s"),
    ],
)
def test_one_that_ends_or_hangs_its_process(how: str, words: str) -> None:
    seconds = 0.5 if how == "hangs" else 30
    with treadle.Pool(1, "processes", initializer=fail, initargs=(how,), start_timeout=seconds) as pool:
        with pytest.raises(treadle.WorkerStartError, match=words):
            pool.submit(recall).result(30)


def test_one_that_exits_a_thread() -> None:
    with treadle.Pool(1, "threads", initializer=fail, initargs=("exits",)) as pool:
        with pytest.raises(treadle.WorkerStartError, match=r"raised SystemExit\(3\)"):
            pool.submit(recall).result(30)


def test_one_that_hangs_a_thread() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    try:
        with treadle.Pool(1, "threads", initializer=hang, start_timeout=0.2) as pool:
            with pytest.raises(treadle.WorkerStartError, match="did not return within"):
                pool.submit(recall).result(30)
    finally:
        release.set()


@pytest.mark.parametrize("start_timeout", [300, None])
def test_one_that_hangs_a_thread_that_nobody_needs(start_timeout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool, and so the program, is left all the same."""
    monkeypatch.setattr("treadle.pool.engines.threads.HURRY_SECONDS", 0.2)
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(120)

    try:
        with treadle.Pool(1, "threads", initializer=hang, start_timeout=start_timeout) as pool:
            future = pool.submit(recall)
            assert begun.wait(30)
            pool.shutdown(wait=False, cancel_futures=True)
        assert future.cancelled() and not release.is_set()
    finally:
        release.set()


def test_one_that_fails_at_first_is_given_another_chance(tmp_path: Any) -> None:
    flag = tmp_path / "failed"

    def once() -> None:
        if not flag.exists():
            flag.touch()
            raise OSError("not yet")

    with treadle.Pool(1, "processes", initializer=once) as pool:
        assert pool.submit(int, "7").result(30) == 7


def test_one_that_cannot_travel() -> None:
    lock = threading.Lock()
    with pytest.raises(treadle.TaskNotPicklable):
        treadle.Pool(1, "processes", initializer=remember, initargs=(lock,))
    with treadle.Pool(1, initializer=remember, initargs=(lock,)) as pool:  # auto: so it is threads
        assert pool.decision is not None and pool.decision.engine == "threads"
        assert pool.submit(recall).result() == (lock, 1)


def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="initializer must be callable"):
        treadle.Pool(initializer=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start_timeout must be more than 0"):
        treadle.Pool(start_timeout=0)


PROGRAM = """
import contextvars, treadle
from treadle import futures
variable = contextvars.ContextVar("variable", default=0)
main = 7

def begin(x):
    global shared
    shared = x

def work(i):
    return shared + main + variable.get() + i

variable.set(100)
for make in (
    lambda: futures.ProcessPoolExecutor(2, initializer=begin, initargs=(10,)),
    lambda: treadle.Pool(2, "processes", start_method={method!r}, initializer=begin, initargs=(10,)),
    lambda: treadle.Pool(2, initializer=begin, initargs=(10,)),
):
    with make() as pool:
        print(list(pool.map(work, range(3))))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_functions_of_the_main_module_find_what_it_has_bound(method: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(method=method))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[117, 118, 119]\n" * 3, "")
