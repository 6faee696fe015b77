"""The benchmarks themselves: what is counted, what is called reached, what the report admits."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from benchmarks import paired, report
from benchmarks.__main__ import GROUPS
from benchmarks.harness import Contestant, Row, Sweep, run, sweep
from benchmarks.store import Store, read_all
from benchmarks.verdicts import verdicts
from benchmarks.why import WHY

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.once


def taking(seconds: float) -> Any:
    """A contestant whose operations take so long, by its own word."""
    return lambda stack: lambda count: seconds * count


def test_a_ratio_is_how_many_times_as_long_as_the_first() -> None:
    row = Row("row", 10, [Contestant("treadle", taking(2e-6)), Contestant("peer", taking(5e-6))])
    ours, theirs = run(row, 3, 1.0)
    assert (ours.kind, theirs.kind) == ("treadle", "peer")
    assert ours.per == pytest.approx(2.0) and theirs.per == pytest.approx(5.0)
    assert theirs.ratio == theirs.low == theirs.high == pytest.approx(2.5)


def test_contestants_take_turns_and_none_is_always_first() -> None:
    turns: list[str] = []

    def named(name: str) -> Any:
        return lambda stack: lambda count: turns.append(name)

    run(Row("row", 1, [Contestant(name, named(name)) for name in ("treadle", "a", "b")], turn=math.inf), 3, 1.0)
    assert turns[3:] == ["treadle", "a", "b", "a", "b", "treadle", "b", "treadle", "a"]


def test_a_slow_one_does_fewer_operations() -> None:
    done: list[int] = []

    def slow(stack: ExitStack) -> Any:
        def work(count: int) -> float:
            done.append(count)
            return 0.1 * count

        return work

    run(Row("row", 1000, [Contestant("treadle", slow)], turn=1.0), 2, 1.0)
    # So few as its warming up was, which its turn would not have let it do.
    assert done[-1] == 50


def test_who_is_missing_or_fails_is_told_and_the_others_go_on() -> None:
    def missing(stack: ExitStack) -> Any:
        raise ImportError(name="rarely")

    def failing(stack: ExitStack) -> Any:
        def work(count: int) -> None:
            raise ValueError("not today")

        return work

    row = Row("row", 1, [Contestant("treadle", taking(1)), Contestant("a", missing), Contestant("b", failing)])
    ours, a, b = run(row, 2, 1.0)
    assert not ours.trouble
    assert a.trouble == "not installed (rarely)"
    assert b.trouble == "ValueError: not today"


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_of_growth(power: int) -> None:
    def at(point: int) -> Row:
        # The time of each operation: that of all of them grows by one power more.
        return Row("", point, [Contestant("treadle", taking(1e-9 * point ** (power - 1)))], turn=math.inf)

    (line,) = sweep(Sweep("growth", "tasks", (10, 100, 1000), at, True), 1, 1.0)
    assert line.exponent == pytest.approx(power)
    assert line.points == [10, 100, 1000]


def test_who_would_take_too_long_has_no_further_points() -> None:
    def at(point: int) -> Row:
        return Row("", point, [Contestant("treadle", taking(1e-3)), Contestant("peer", taking(1e-1))], turn=math.inf)

    ours, theirs = sweep(Sweep("growth", "tasks", (10, 100, 1000), at, True), 1, 1.0)
    assert ours.points == [10, 100, 1000]
    assert theirs.points == [10]


@pytest.fixture
def results(tmp_path: Any) -> list[dict[str, Any]]:
    """A row that reaches a goal, misses one, and is behind a peer that has none."""
    contestants = [
        Contestant("treadle", taking(4e-6)), Contestant("far", taking(20e-6)), Contestant("near", taking(6e-6)),
        Contestant("ahead", taking(2e-6)), Contestant("floor", taking(1e-6), limit=True),
    ]  # fmt: skip
    row = Row("a row", 10, contestants, {"far": 3, "near": 2, "": 5})
    store = Store(tmp_path, "3.13.0")
    store.data |= {"python": "3.13.0", "versions": {"treadle": "1"}, "quick": False}
    store.add_row("pool", row, run(row, 3, 1.0))
    return read_all(tmp_path)


def test_goals(results: list[dict[str, Any]]) -> None:
    found = {each.against: each.reached("3.13.0") for each in verdicts(results)}
    # A limit of the machine is no peer: nobody has to be ahead of it.
    assert found == {"far": True, "near": False, "ahead": False, "": True}


def test_the_report_admits_what_was_not_reached(results: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(verdicts(results))
    goals = "\n".join(report._goals(results, found))
    assert "Reached on Python 3.13.0: 2 of 3." in goals
    assert "| a row | near | at least 2x | **1.5** |" in goals
    assert "| a row | far | at least 3x | 5 |" in goals
    assert "\n".join(report._behind(results, found)).endswith("Not understood yet.")
    monkeypatch.setitem(WHY, "a row", "The kernel is what it is.")
    behind = "\n".join(report._behind(results, found))
    assert "0.50x ahead (0.50 .. 0.50), on 3.13.0" in behind
    assert "1.50x near (1.50 .. 1.50), goal 2, on 3.13.0" in behind
    assert behind.endswith("The kernel is what it is.")


@pytest.mark.parametrize(("load", "warned"), [(1.0, False), (1000.0, True)])
def test_a_busy_machine_is_admitted(results: list[dict[str, Any]], load: float, warned: bool) -> None:
    results[0]["loads"] = [load, load, 2000.0]
    setting = "\n".join(report._setting(results))
    assert f"{load:.1f} (median), 2000.0 at most" in setting
    assert ("worth little" in setting) == warned


def test_the_whole_report(results: list[dict[str, Any]], tmp_path: Any) -> None:
    if find_spec("matplotlib") is None:
        pytest.skip("no matplotlib: the bench extra is not installed")
    store = Store(tmp_path, "3.13.0")

    def at(point: int) -> Row:
        return Row("", point, [Contestant("treadle", taking(1e-6))], turn=math.inf)

    what = Sweep("growth", "tasks", (10, 100), at, True, goal=1.05)
    for python in ("3.13.0", "3.12.1", "3.11.7", "3.13.5t"):
        other = Store(tmp_path, python)
        other.data |= {**store.data, "python": python}
        for group in ("scaling", "scaling_threads"):
            other.add_sweep(group, what, sweep(what, 1, 1.0))
    store = Store(tmp_path, "3.13.0")
    store.add_trouble("trace", "another row", "did not end in 180 s")
    target = tmp_path / "RESULTS.md"
    # In a process of its own: matplotlib keeps its fonts open.
    arguments = [tmp_path, target, tmp_path / "pictures"]
    subprocess.run([sys.executable, "-m", "benchmarks.report", *arguments], check=True, cwd=ROOT, timeout=50)
    text = target.read_text()
    assert "| growth | tasks | treadle | 3.13.0 | 10 to 100 | 1.00 | at most 1.05: reached |" in text
    assert "- another row (trace), Python 3.13.0: did not end in 180 s" in text
    for name in ("pool", "scaling", "scaling_threads"):
        assert f"](pictures/{name}.svg)" in text
        assert (tmp_path / "pictures" / f"{name}.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize("group", GROUPS)
def test_rows_are_whole(group: str) -> None:
    pytest.importorskip("lmdb")
    module = import_module(f"benchmarks.rows.{group}")
    rows = list(module.rows()) if hasattr(module, "rows") else []
    sweeps = list(module.sweeps()) if hasattr(module, "sweeps") else []
    pairs = list(module.pairs()) if hasattr(module, "pairs") else []
    assert rows or sweeps or pairs
    titles = [pair.title for pair in pairs]
    assert group in report.GROUPS
    titles += [row.title for row in rows] + [each.title for each in sweeps]
    assert len(set(titles)) == len(titles)
    for row in rows + [each.row(each.points[0]) for each in sweeps]:
        names = [each.name for each in row.contestants]
        assert len(set(names)) == len(names)
        assert row.contestants[0].kind == "treadle"
        assert {name for name in row.goals if name} <= set(names), "a goal against nobody"


def test_a_pair_is_a_row_whose_measure_is_a_limit() -> None:
    costs = iter([paired.Cost(1e-6, 2e-6), paired.Cost(2e-6, 2e-6)] * 100)

    def either() -> paired.Cost:
        return next(costs)

    pair = paired.Pair("a pair", ("plain", "recorded"), lambda stack: (either, either), goal=1.02)
    ours, clock, processors = paired.run(pair, 4)
    assert [each.kind for each in (ours, clock, processors)] == ["treadle", "limit", "limit"]
    # Whichever comes first: in the next pair it is the other one.
    assert sorted({clock.low, clock.high}) == [pytest.approx(0.5), pytest.approx(2.0)]
    assert processors.ratio == pytest.approx(1.0)
    assert paired.row(pair).goals == {clock.name: pytest.approx(1 / 1.02), processors.name: pytest.approx(1 / 1.02)}


def test_explanations_are_of_rows_that_are_there() -> None:
    pytest.importorskip("lmdb")
    modules = [import_module(f"benchmarks.rows.{group}") for group in GROUPS]
    titles = {row.title for module in modules if hasattr(module, "rows") for row in module.rows()}
    titles |= {pair.title for module in modules if hasattr(module, "pairs") for pair in module.pairs()}
    assert set(WHY) <= titles
