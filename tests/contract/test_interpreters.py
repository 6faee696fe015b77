"""The engine of subinterpreters, where Python has them; elsewhere a clear refusal."""

from __future__ import annotations

import sys
from contextvars import ContextVar

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
    with treadle.Pool(1, engine="interpreters", initializer=work.keep, initargs=("inside",)) as pool:
        assert pool.submit(work.kept).result(20) == ["inside"]
    assert work.state == []


@needs_them
def test_an_initializer_that_fails() -> None:
    from treadle.futures import BrokenExecutor, InterpreterPoolExecutor

    with InterpreterPoolExecutor(1, initializer=work.refuse) as executor:
        error = executor.submit(work.square, 2).exception(20)
        assert isinstance(error, BrokenExecutor) and isinstance(error.__cause__, LookupError)
