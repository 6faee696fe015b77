"""The fault table: each way to go wrong, at each place; the exact error, and what becomes of the neighbours.

What goes wrong in the caller's own process (an argument whose pickling calls `os._exit`, say) ends that process, as it
would without a pool; such cells are not in the table.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pickle import PicklingError, UnpicklingError
from typing import Any

import fault_pool
import fault_work as work
import pytest
from scripts import crowd

import treadle
from treadle import (
    Pool,
    RemoteError,
    ResultNotLoadable,
    ResultNotPicklable,
    TaskNotLoadable,
    TaskNotPicklable,
    TaskTimeout,
    WorkerDied,
)

pool, _leaves_nothing = fault_pool.pool, fault_pool.leaves_nothing
TIMEOUT = 1.0
SLACK = 0.6  # seconds within which the error comes, beyond the time-out where that is what ends it

WAYS = ("raise", "exit", "os._exit", "segfault", "kill", "hang")
DEATHS = {"exit": 7, "os._exit": 9, "segfault": -signal.SIGSEGV, "kill": -signal.SIGKILL}


def outcome(pool: Pool, fn: Callable[..., Any], *args: Any, timeout: float | None = TIMEOUT) -> BaseException:
    """The task's error; its neighbours, before and behind it, must have their results."""
    before = [pool.submit(work.square, i) for i in range(30)]
    begin = time.monotonic()
    future = pool.options(timeout=timeout).submit(fn, *args)
    behind = [pool.submit(work.square, i) for i in range(30)]
    error = future.exception(20)
    took = time.monotonic() - begin
    assert [f.result(20) for f in before + behind] == [i * i for i in range(30)] * 2
    assert error is not None
    assert took < (TIMEOUT if isinstance(error, TaskTimeout) else 0) + (SLACK + 0.4) * crowd()
    assert pool.submit(work.square, 5).result(20) == 25
    return error


def check_death(error: BaseException, way: str) -> None:
    """The worker died of it, and the error says how."""
    if way == "hang":
        assert type(error) is TaskTimeout and isinstance(error, TimeoutError)
        assert error.timeout == TIMEOUT
    else:
        assert type(error) is WorkerDied and isinstance(error, BrokenExecutor)
        code = DEATHS[way]
        assert error.exitcode == code
        assert error.signal == (signal.Signals(-code) if code < 0 else None)
        assert (signal.Signals(-code).name if code < 0 else f"code {code}") in str(error)
        assert error.pid is not None and str(error.pid) in str(error) and error.pid != os.getpid()
    info = treadle.failure(error)
    assert info is not None and info.attempts == 1 and info.pid is not None


@pytest.mark.parametrize("way", WAYS)
def test_run(pool: Pool, way: str) -> None:
    error = outcome(pool, work.act, way)
    if way == "raise":
        assert type(error) is work.Refusal and error.args == ("as ordered",)
    else:
        check_death(error, way)
    info = treadle.failure(error)
    assert info is not None and info.item == way


@pytest.mark.parametrize("way", WAYS)
def test_unpickle_argument(pool: Pool, way: str) -> None:
    error = outcome(pool, work.ignore, work.Unpickles(way, spare=os.getpid()))
    if way == "raise":
        assert type(error) is TaskNotLoadable and isinstance(error, UnpicklingError)
        assert "argument" in str(error) and "Refusal: as ordered" in str(error)
    else:
        check_death(error, way)
    info = treadle.failure(error)
    assert info is not None and isinstance(info.item, work.Unpickles)


@pytest.mark.parametrize("way", WAYS)
def test_unpickle_function(pool: Pool, way: str) -> None:
    error = outcome(pool, work.Unpickles(way, spare=os.getpid()), 5)
    if way == "raise":
        assert type(error) is TaskNotLoadable
        assert "function" in str(error) and "Refusal: as ordered" in str(error)
    else:
        check_death(error, way)


@pytest.mark.parametrize("way", WAYS)
def test_pickle_result(pool: Pool, way: str) -> None:
    error = outcome(pool, work.give, "pickle", way, None)
    if way == "raise":
        assert type(error) is ResultNotPicklable and isinstance(error, PicklingError)
        assert "give returned" in str(error) and "Refusal: as ordered" in str(error)
    else:
        check_death(error, way)


@pytest.mark.parametrize("way", ["raise", "exit"])
def test_unpickle_result(pool: Pool, way: str) -> None:
    """In this process; worse than these two ends it."""
    error = outcome(pool, work.give, "unpickle", way, None)
    assert type(error) is ResultNotLoadable and isinstance(error, UnpicklingError)
    assert "the result of give" in str(error)
    assert type(error.__cause__) is (work.Refusal if way == "raise" else SystemExit)


@pytest.mark.parametrize("way", WAYS)
def test_pickle_exception(pool: Pool, way: str) -> None:
    error = outcome(pool, work.throw, "PicklingError", way)
    if way == "raise":
        assert type(error) is work.PicklingError and error.how == way, "rebuilt without its own help"
        assert "in throw" in str(error.__cause__)
    else:
        check_death(error, way)


@pytest.mark.parametrize("way", WAYS)
def test_unpickle_exception(pool: Pool, way: str) -> None:
    error = outcome(pool, work.throw, "UnpicklingError", way)
    if way == "raise":
        assert type(error) is work.UnpicklingError and error.how == way
        assert "in throw" in str(error.__cause__)
    else:
        check_death(error, way)


@pytest.mark.parametrize("what", ["argument", "function"])
@pytest.mark.parametrize("way", ["raise", "exit"])
def test_pickle_argument_or_function(pool: Pool, what: str, way: str) -> None:
    """In this process: nothing is sent."""
    trouble = work.Pickles(way)
    args = (work.ignore, trouble) if what == "argument" else (trouble, 1)
    if way == "exit":  # it asks for the end of this very thread
        with pytest.raises(SystemExit):
            pool.submit(*args)
        assert pool.submit(work.square, 5).result(20) == 25
        return
    error = outcome(pool, *args)
    assert type(error) is TaskNotPicklable and isinstance(error, PicklingError)
    assert what in str(error) and "Refusal: as ordered" in str(error)
    info = treadle.failure(error)
    assert info is not None and info.pid is None, "it never ran"


def test_unpicklable_argument_is_named(pool: Pool) -> None:
    lock = __import__("threading").Lock()
    assert "argument 1, <unlocked" in str(outcome(pool, work.act, "nothing", lock))
    error = pool.submit(work.act, how=lock).exception(5)
    assert "argument 'how', <unlocked" in str(error)


# -- exceptions that don't like to travel


def test_exception_with_two_required_arguments(pool: Pool) -> None:
    error = outcome(pool, work.throw, "TwoArguments", 3, "text")
    assert type(error) is work.TwoArguments and error.code == 3 and error.args == ("3: text",)
    assert "TwoArguments: 3: text" in str(error.__cause__)


def test_exception_that_holds_a_lock(pool: Pool) -> None:
    error = outcome(pool, work.throw, "HoldsALock", "words")
    assert type(error) is work.HoldsALock and error.text == "words" and error.args == ("words",)
    assert any("without lock" in note for note in error.__notes__)


def test_exception_without_str(pool: Pool) -> None:
    error = outcome(pool, work.throw, "NoStr")
    assert type(error) is work.NoStr


def test_exception_that_can_only_be_rebuilt_at_home(pool: Pool) -> None:
    """The trial in the worker succeeds, and it fails here."""
    error = outcome(pool, work.throw_elsewhere)
    assert type(error) is RemoteError and error.type_name == "fault_work.ElsewhereError"
    assert "in throw_elsewhere" in treadle.failure(error).traceback  # type: ignore[union-attr]
    assert "not here" in treadle.failure(error).traceback  # type: ignore[union-attr]


def test_exception_with_a_lambda(pool: Pool) -> None:
    error = outcome(pool, work.throw_lambda)
    assert type(error) is ValueError and error.args[1] == "two"


def test_exception_of_a_local_class(pool: Pool) -> None:
    error = outcome(pool, work.throw_local)
    assert type(error).__name__ == "Local" and error.args == ("from a function",)


def test_exception_group(pool: Pool) -> None:
    error = outcome(pool, work.throw_group)
    assert isinstance(error, (ExceptionGroup, RemoteError))
    assert "TwoArguments: 3: x" in treadle.failure(error).traceback  # type: ignore[union-attr]


def test_recursion_error(pool: Pool) -> None:
    assert type(outcome(pool, work.throw_deep)) is RecursionError


def test_result_that_is_too_deep_to_pickle(pool: Pool) -> None:
    error = outcome(pool, work.nested_list, timeout=5)
    assert type(error) is ResultNotPicklable and "RecursionError" in str(error)


# -- callbacks


@pytest.mark.parametrize("engine", ["processes", "threads"])
@pytest.mark.parametrize("way", ["raise", "exit"])
def test_callback(engine: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a callback raises is nobody else's loss, and it is seen."""
    with Pool(2, engine=engine) as own:  # type: ignore[arg-type]
        futures = [own.submit(work.square, i) for i in range(200)]
        seen: list[int] = []
        for future in futures:
            future.add_done_callback(lambda f: seen.append(f.result()))
        bad = own.submit(time.sleep, 0.05)
        bad.add_done_callback(lambda f: work.act(way))
        after = [own.submit(work.square, i) for i in range(200)]
        assert [f.result(20) for f in futures + after] == [i * i for i in range(200)] * 2
        assert bad.result(20) is None
        assert sorted(seen) == sorted(i * i for i in range(200))


# -- the same in a map, by start method


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("way", WAYS)
def test_map_keeps_the_others(method: str, way: str) -> None:
    items = ["nothing"] * 40
    items[13] = way
    begin = time.monotonic()
    got = list(
        treadle.map(
            work.act,
            items,
            engine="processes",
            workers=2,
            timeout=TIMEOUT,
            on_error="return",
            start_method=method,  # type: ignore[arg-type]
        )
    )
    assert time.monotonic() - begin < TIMEOUT + 3 * crowd()
    error = got.pop(13)
    assert got == [None] * 39
    if way == "raise":
        assert type(error) is work.Refusal
    else:
        check_death(error, way)
    info = treadle.failure(error)
    assert info is not None and (info.index, info.item) == (13, way)


@pytest.mark.parametrize("way", ["raise", "exit", "os._exit", "kill", "hang"])
def test_retries_of_every_way(way: str, tmp_path: Any) -> None:
    """The second attempt is another worker's where the first one's died."""
    with Pool(2, engine="processes") as own:
        path = str(tmp_path / "tries")
        assert own.options(retries=1, timeout=2 * TIMEOUT).submit(work.fail_once, path, way).result(20) == 2
        error = own.options(retries=2, timeout=0.1 if way == "hang" else None).submit(work.act, way).exception(20)
        info = treadle.failure(error)  # type: ignore[arg-type]
        assert info is not None and info.attempts == 3
