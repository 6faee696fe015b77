"""`map(..., stream=True)`: generators whose values arrive as they go."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import stream_work as work

import treadle

ENGINES = ("threads", "processes", "auto")


def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never comes true"
        time.sleep(0.002)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ordered", [True, False])
def test_all_values_arrive_those_of_an_input_in_order(engine: Any, ordered: bool) -> None:
    numbers = [5, 0, 300, 1, 17, 200, 2, 2]
    with treadle.Pool(3, engine) as pool:
        found = list(pool.map(work.count, numbers, stream=True, ordered=ordered))
    wanted = [pair for number in numbers for pair in work.count(number)]
    if ordered:
        assert found == wanted
    else:
        assert sorted(found) == sorted(wanted)
        assert [pair for pair in found if pair[0] == 300] == list(work.count(300))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_arrives_before_the_next_one_is_made(engine: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    values = treadle.map(work.gated, [str(gate)], stream=True, engine=engine, workers=1)
    assert next(values) == 1
    gate.touch()
    assert list(values) == [2]


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_worker_waits_for_its_reader_and_is_ended_with_the_iteration(engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "position"

    def position() -> int:
        try:
            return int(path.read_text() or 0)
        except OSError:
            return 0

    def stands_still() -> bool:
        before = position()
        time.sleep(0.15)
        return before > 0 and position() == before

    with treadle.Pool(1, engine) as pool:
        values = pool.map(work.forever, [str(path)], stream=True)
        assert [n for n, _ in itertools.islice(values, 3)] == [0, 1, 2]
        until(stands_still)
        assert position() < 1_000
        # It goes on where it was, and nothing is lost.
        more = position() + 500
        assert [n for n, _ in itertools.islice(values, more)] == list(range(3, 3 + more))
        values.close()
        assert list(values) == []
        assert pool.submit(abs, -3).result(20) == 3, "the worker is free again"
        if engine == "threads":
            until(Path(f"{path}.closed").exists)


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_one_that_is_dropped_ends_too(engine: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, engine) as pool:
        values = pool.map(work.forever, [str(tmp_path / "position")], stream=True)
        assert next(values)[0] == 0
        del values
        gc.collect()
        assert pool.submit(abs, -3).result(20) == 3


def test_large_values_do_not_pile_up() -> None:
    def rss() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = rss()
    most = total = 0
    for value in treadle.map(work.large, [150, 150], stream=True, engine="processes", workers=2):
        total += len(value)
        most = max(most, rss() - before)
    assert total == 300 * 300_000
    assert most < 45_000_000


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raises", ValueError),
        ("dies", treadle.WorkerDied),
        ("hangs", treadle.TaskTimeout),
        ("unpicklable", treadle.ResultNotPicklable),
    ],
)
def test_what_came_before_a_failure_comes_first_and_is_not_repeated(how: str, error: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, "processes") as pool:
        values = pool.map(work.break_off, [how], [str(tmp_path)], stream=True, retries=3, timeout=0.5)
        assert [next(values), next(values)] == [1, 2]
        with pytest.raises(error):
            next(values)
        assert len(list(tmp_path.iterdir())) == 1, "it was tried again, although it had yielded"
        values = pool.map(work.break_off, [how, "not"], stream=True, timeout=0.5, on_error="return")
        found = list(values)
        assert [v for v in found if not isinstance(v, BaseException)] == [1, 2, 1, 2, 3]
        assert isinstance(found[2], error)
        assert list(pool.map(work.break_off, [how, "not"], stream=True, timeout=0.5, on_error="skip")) == [
            1,
            2,
            1,
            2,
            3,
        ]


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_one_that_has_yielded_nothing_is_tried_again(engine: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, engine) as pool:
        assert list(pool.map(work.fail_first, [str(tmp_path)], stream=True, retries=2)) == [1, 2]
        with pytest.raises(ValueError, match="in the middle"):
            list(pool.map(work.break_off, ["raises"], stream=True, retries=2))


def test_other_work_goes_on_beside_it() -> None:
    with treadle.Pool(2, "processes") as pool:
        values = pool.map(work.pids, [5_000, 5_000], stream=True)
        first = [next(values) for _ in range(10)]
        values.close()
        assert len(set(first)) == 1
        assert list(pool.map(abs, range(100))) == list(range(100))


def test_outcomes_and_mistakes() -> None:
    with treadle.Pool(1, "threads") as pool:
        outcomes = list(pool.map(work.break_off, ["not", "raises"], stream=True).outcomes())
        assert [(o.index, o.ok, o.value) for o in outcomes] == [
            (0, True, 1), (0, True, 2), (0, True, 3), (1, True, 1), (1, True, 2), (1, False, None),
        ]  # fmt: skip
        with pytest.raises(TypeError, match="not iterable"):
            list(pool.map(abs, [1], stream=True))
        with pytest.raises(ValueError, match="a map that streams has no"):
            pool.map(work.count, [1], stream=True, buffer=3)
