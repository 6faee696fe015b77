"""The fault table for runs: items that travel together, of which one goes wrong in the middle."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_pool
import fault_work as work
import pytest
from test_fault_table import WAYS, check_death

import treadle
from treadle import Pool, ResultNotLoadable, ResultNotPicklable, TaskNotLoadable, TaskNotPicklable

pool, _leaves_nothing = fault_pool.pool, fault_pool.leaves_nothing
give_bad = fault_pool.give_bad
HERE = os.getpid()
COUNT, BAD = 12_000, 9_000


def one_bad(pool: Pool, fn: Callable[..., Any], bad: Any, ordered: bool = True) -> BaseException:
    """One goes wrong among many that are quick; all others have their results, each once and in order."""
    inputs = itertools.chain(range(BAD), [bad], range(BAD + 1, COUNT))
    results = pool.map(fn, inputs, on_error="return", ordered=ordered)
    got, longest = [], 1
    for result in results:
        got.append(result)
        longest = max(longest, results._feeder.run)  # type: ignore[union-attr]
    assert longest > 4, "nothing has travelled in runs"
    (error,) = [each for each in got if isinstance(each, BaseException)]
    got.remove(error)
    assert (got if ordered else sorted(got)) == [i for i in range(COUNT) if i != BAD]
    info = treadle.failure(error)
    assert info is not None and info.index == BAD and info.attempts == 1
    assert info.item is bad or info.item == bad
    assert pool.submit(work.square, 5).result(20) == 25
    return error


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "hang"])
def test_run(pool: Pool, way: str, ordered: bool) -> None:
    error = one_bad(pool, give_bad, ("run", way), ordered)
    if way == "raise":
        assert type(error) is work.Refusal
    else:
        check_death(error, way)


@pytest.mark.parametrize("way", ["raise", "kill"])
@pytest.mark.parametrize("place", ["result", "exception"])
def test_on_the_way_back(pool: Pool, place: str, way: str) -> None:
    error = one_bad(pool, give_bad, (place, way))
    if way == "raise":
        assert type(error) is {"result": ResultNotPicklable, "exception": work.PicklingError}[place]
    else:
        check_death(error, way)


def test_loading_and_pickling(pool: Pool) -> None:
    assert type(one_bad(pool, give_bad, ("unpickle result", "raise"))) is ResultNotLoadable
    assert type(one_bad(pool, work.identity, work.Unpickles("raise", spare=HERE))) is TaskNotLoadable
    assert type(one_bad(pool, work.identity, work.Pickles("raise"))) is TaskNotPicklable


def wait_for(path: str) -> int:
    """As long as there is no such file; a number is given back."""
    if type(path) is int:
        return path
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.002)
    return -1


def test_what_is_behind_a_long_one_is_taken_back(pool: Pool, tmp_path: Path) -> None:
    """All others have their results while it still runs."""
    gate = tmp_path / "gate"
    inputs = itertools.chain(range(BAD), [str(gate)], range(BAD + 1, COUNT))
    results = pool.map(wait_for, inputs, ordered=False)
    got = [next(results) for _ in range(COUNT - 1)]
    gate.touch()
    assert sorted(got) == [i for i in range(COUNT) if i != BAD]
    assert list(results) == [-1]


def test_leaving_in_the_middle_of_runs_cancels_them(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    results = pool.map(wait_for, itertools.chain(range(BAD), itertools.repeat(str(gate))))
    for _ in range(BAD):
        next(results)
    results.close()
    gate.touch()
    deadline = time.monotonic() + 10
    while any(worker.running for worker in pool.stats().workers) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert pool.stats().queued == 0
    assert pool.submit(work.square, 5).result(20) == 25


def fail_or_give(item: int) -> int:
    if item % 100 == 7:
        raise ValueError(item)
    return item


def test_many_failures_in_runs(pool: Pool) -> None:
    outcomes = list(pool.map(fail_or_give, range(COUNT)).outcomes())
    assert [(each.index, each.item) for each in outcomes] == [(i, i) for i in range(COUNT)]
    assert [each.index for each in outcomes if not each.ok] == list(range(7, COUNT, 100))
    assert list(pool.map(fail_or_give, range(COUNT), on_error="skip")) == [i for i in range(COUNT) if i % 100 != 7]
