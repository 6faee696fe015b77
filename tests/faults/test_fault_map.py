"""The fault table once more: where the tasks come from a map, in each engine, and for the initializer.

`test_fault_table.py` has the cells of single submits on processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import fault_pool
import fault_work as work
import pytest
from scripts import crowd
from test_fault_table import DEATHS, SLACK, TIMEOUT, WAYS, check_death

import treadle
from treadle import (
    Pool,
    ResultNotLoadable,
    ResultNotPicklable,
    TaskNotLoadable,
    TaskNotPicklable,
    TaskTimeout,
    WorkerDied,
    WorkerStartError,
)

pool, _leaves_nothing = fault_pool.pool, fault_pool.leaves_nothing
give_bad = fault_pool.give_bad
HERE = os.getpid()


def one_bad(pool: Pool, fn: Callable[..., Any], bad: Any, way: str) -> BaseException:
    """A map of forty of which one goes wrong; all others have their results, in order."""
    items: list[Any] = list(range(40))
    items[17] = bad
    # A time-out only where something hangs: on a busy machine a healthy call in a new worker may be as slow.
    timeout = TIMEOUT if way == "hang" else None
    begin = time.monotonic()
    got = list(pool.map(fn, items, timeout=timeout, on_error="return"))
    took = time.monotonic() - begin
    error = got.pop(17)
    assert got == [i for i in range(40) if i != 17]
    assert isinstance(error, BaseException)
    assert took < (TIMEOUT if isinstance(error, TaskTimeout) else 0) + (2 * SLACK + 1) * crowd()
    info = treadle.failure(error)
    assert info is not None and info.index == 17
    assert pool.submit(work.square, 5).result(20) == 25
    return error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["run", "result", "exception", "unpickle exception"])
def test_in_the_worker(pool: Pool, place: str, way: str) -> None:
    error = one_bad(pool, give_bad, (place, way), way)
    if way != "raise":
        check_death(error, way)
    else:
        expected = {
            "run": work.Refusal,
            "result": ResultNotPicklable,
            "exception": work.PicklingError,
            "unpickle exception": work.UnpicklingError,
        }
        assert type(error) is expected[place]


@pytest.mark.parametrize("way", WAYS)
def test_unpickle_argument(pool: Pool, way: str) -> None:
    error = one_bad(pool, work.identity, work.Unpickles(way, spare=HERE), way)
    if way == "raise":
        assert type(error) is TaskNotLoadable and "Refusal: as ordered" in str(error)
    else:
        check_death(error, way)


@pytest.mark.parametrize("way", ["raise", "exit"])
def test_unpickle_result(pool: Pool, way: str) -> None:
    error = one_bad(pool, give_bad, ("unpickle result", way), way)
    assert type(error) is ResultNotLoadable
    assert type(error.__cause__) is (work.Refusal if way == "raise" else SystemExit)


def test_pickle_argument(pool: Pool) -> None:
    error = one_bad(pool, work.identity, work.Pickles("raise"), "raise")
    assert type(error) is TaskNotPicklable and "Refusal: as ordered" in str(error)


@pytest.mark.parametrize("way", ["raise", "exit", "kill"])
def test_unpickle_function(pool: Pool, way: str) -> None:
    """Each item fails on its own, and the pool is as good as new."""
    got = list(pool.map(work.Unpickles(way, spare=HERE), range(6), timeout=TIMEOUT, on_error="return"))
    for error in got:
        assert isinstance(error, TaskNotLoadable if way == "raise" else WorkerDied)
    assert pool.submit(work.square, 5).result(20) == 25


# -- threads: what does not end the program


@pytest.mark.parametrize("source", ["submit", "map"])
@pytest.mark.parametrize("way", ["raise", "exit", "hang"])
def test_threads(source: str, way: str) -> None:
    go = __import__("threading").Event()

    def act(item: Any) -> Any:
        if item != "bad":
            return item
        if way == "hang":
            go.wait(60)  # a thread can't be killed: the test ends it
        else:
            work.act(way)

    with Pool(2, engine="threads") as own:
        try:
            if source == "map":
                error = one_bad(own, act, "bad", way)
            else:
                error = own.options(timeout=TIMEOUT).submit(act, "bad").exception(20)  # type: ignore[assignment]
                assert own.submit(act, 5).result(20) == 5
        finally:
            go.set()
    if way == "raise":
        assert type(error) is work.Refusal
    elif way == "exit":
        assert type(error) is WorkerDied and error.exitcode == DEATHS["exit"]
    else:
        assert type(error) is TaskTimeout


# -- auto


@pytest.mark.parametrize("way", WAYS)
def test_auto(way: str) -> None:
    """Whatever it has chosen by then, and though the bad one may be among those that it measures."""
    with Pool(2, engine="auto") as own:
        error = one_bad(own, give_bad, ("run", way), way) if way in ("kill", "segfault", "os._exit") else None
        if error is None:
            error = own.options(timeout=TIMEOUT).submit(give_bad, ("run", way)).exception(20)
            assert own.submit(work.square, 5).result(20) == 25
    if way == "raise":
        assert type(error) is work.Refusal
    else:
        assert type(error) is (TaskTimeout if way == "hang" else WorkerDied)


# -- the initializer


@pytest.mark.parametrize(
    ("method", "source"),
    [
        ("forkserver", "submit"),
        ("forkserver", "map"),
        ("fork", "submit"),
        pytest.param("spawn", "submit", marks=pytest.mark.heavy),
    ],
)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "hang"])
def test_initializer(way: str, method: Any, source: str) -> None:
    with Pool(1, engine="processes", start_method=method, initializer=work.act, initargs=(way,)) as own:
        if source == "submit":
            error = own.submit(abs, -1).exception(30)
        else:
            (error,) = own.map(abs, [-1], on_error="return")
    assert type(error) is WorkerStartError
    words = {"raise": "as ordered", "exit": "code 7", "os._exit": "code 9", "segfault": "SIGSEGV", "kill": "SIGKILL"}
    assert "act" in str(error) and words[way] in str(error) + str(error.__cause__)
