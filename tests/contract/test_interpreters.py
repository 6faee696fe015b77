"""The engine of subinterpreters, where Python has them; elsewhere a clear refusal."""

from __future__ import annotations

import subprocess
import sys
import time
from contextvars import ContextVar
from pathlib import Path

import contract_work
import futures_work as work
import pytest

import treadle

needs_them = pytest.mark.skipif(sys.version_info < (3, 14), reason="Python has interpreters from 3.14 on")
variable: ContextVar[str] = ContextVar("variable", default="none")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has them")
def test_older_pythons_say_so() -> None:
    with pytest.raises(ValueError, match=r"needs Python 3.14 or newer, this is 3\.1"):
        treadle.Pool(2, engine="interpreters")
    with pytest.raises(ImportError):
        from treadle.futures import InterpreterPoolExecutor  # noqa: F401


@needs_them
def test_results_errors_and_the_end_of_a_worker() -> None:
    with treadle.Pool(2, engine="interpreters") as pool:
        assert list(pool.map(work.square, range(20))) == [i * i for i in range(20)]
        assert pool.submit(lambda x: x + 1, 1).result(20) == 2
        error = pool.submit(work.refuse).exception(20)
        assert type(error) is LookupError and "in refuse" in str(error.__cause__)
        assert isinstance(pool.submit(work.leave, 3).exception(20), treadle.WorkerDied)
        assert isinstance(pool.submit(lambda: (i for i in ())).exception(20), treadle.ResultNotPicklable)
        assert isinstance(pool.submit(work.square, work.Unloadable()).exception(20), treadle.TaskNotLoadable)
        variable.set("travels")
        assert pool.submit(variable.get).result(20) == "travels"
        with pytest.raises(ValueError, match="stream"):
            pool.map(work.square, range(3), stream=True)


@needs_them
def test_modules_are_each_workers_own() -> None:
    work.state.clear()  # threads of other tests have used it
    with treadle.Pool(1, engine="interpreters", initializer=work.keep, initargs=("inside",)) as pool:
        assert pool.submit(work.kept).result(20) == ["inside"]
    assert work.state == []


@needs_them
def test_an_initializer_that_fails() -> None:
    from treadle.futures import BrokenExecutor, InterpreterPoolExecutor

    with InterpreterPoolExecutor(1, initializer=work.refuse) as executor:
        error = executor.submit(work.square, 2).exception(20)
        assert isinstance(error, BrokenExecutor) and isinstance(error.__cause__, LookupError)


def use_numpy(x: int) -> int:
    import numpy

    return int(numpy.arange(x).sum())


@needs_them
def test_a_module_that_refuses_is_named() -> None:
    numpy = pytest.importorskip("numpy")
    with treadle.Pool(1, engine="interpreters") as pool:
        calls = [pool.submit(use_numpy, 3), pool.submit(len, numpy.arange(3)), pool.submit(numpy.sum, [1])]
        for error in [call.exception(20) for call in calls]:
            if error is None:
                pytest.skip("this numpy does not refuse any more")
            assert isinstance(error, treadle.ModuleRefused) and isinstance(error, ImportError)
            assert error.name is not None and error.name.startswith("numpy.") and error.name in str(error)
            assert "processes" in str(error)
        assert pool.submit(work.square, 3).result(20) == 9
    with treadle.Pool(1, engine="interpreters", initializer=use_numpy, initargs=(1,)) as pool:
        started = pool.submit(work.square, 3).exception(20)
        assert isinstance(started, treadle.WorkerStartError) and isinstance(started.__cause__, treadle.ModuleRefused)


def hold_the_lock(started: str) -> float:
    """One step of the interpreter's that takes long and lets nobody else have its lock; when it was over."""
    Path(started).touch()
    assert pow(3, 4_000_000) > 0
    return time.monotonic()


@needs_them
def test_each_has_a_lock_of_its_own(tmp_path: Path) -> None:
    with treadle.Pool(2, engine="interpreters") as pool:
        assert list(pool.map(work.square, range(20))) == [i * i for i in range(20)]
        holds = pool.submit(hold_the_lock, str(tmp_path / "started"))
        contract_work.until(tmp_path / "started")
        other = pool.submit(time.monotonic).result(20)
        assert other < holds.result(60), "it ran meanwhile, and so did this one"


@needs_them
@pytest.mark.parametrize(
    "program",
    [
        "next(treadle.map(abs, range(10), engine='interpreters'))",
        "treadle.Pool(1, engine='interpreters', initializer=divmod).submit(abs, 1).exception(20)",
        "treadle.Pool(2, engine='interpreters').map(abs, range(10), buffer=5).__next__()",
        "[treadle.Pool(2, engine='interpreters').submit(abs, -1) for _ in range(3)]",
    ],
)
def test_the_program_may_end_while_they_close(program: str) -> None:
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", f"import treadle\n{program}"], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stderr) == (0, "")
