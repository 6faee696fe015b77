"""Writes RESULTS.md and its pictures: ``python -m benchmarks.report [FOLDER [TARGET PICTURES]]``, from FOLDER."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import charts
from .harness import ratio_text
from .machine import machine
from .store import FOLDER, read_all
from .verdicts import Verdict, rows_of, verdicts
from .why import WHY

HERE = Path(__file__).parent
GROUPS = {
    "pool": "Pools: tasks that do nothing",
    "pool_faces": "`multiprocessing.Pool` and `ThreadPool`",
    "pool_start": "Until the first result",
    "brain": "CPU time of the parent",
    "memory": "Memory",
    "real_work": "Real work",
    "pipeline": "Pipelines, and what processes change together",
    "queues_shared": "Queues between processes",
    "sync_shared": "Locks between processes",
    "managers": "Managers",
    "sync": "Locks and queues of threads",
    "clusters": "Dask and Ray",
    "trace": "What a trace costs",
    "board": "What the board costs",
    "scaling": "Growth",
    "scaling_threads": "Threads, 1 to 8",
}
INTRODUCTION = """# What was measured

Written by `make bench`; don't edit it. All contestants of a row take turns in one run, round after round.
**A ratio is how many times as long as treadle** the other one took in the same round: above 1, treadle is faster. It is
the median of the rounds, with the least and the most in brackets. Times are of one operation (a task, a message, a
file), and are worth less than the ratios. A *limit* is no peer: it is what the machine itself needs for the bare
minimum (a copy, a pipe, pickling), so a ratio below 1 is what one expects, and the nearer to 1, the better.
"""


def write(folder: Path = FOLDER, target: Path = HERE / "RESULTS.md", pictures: Path = HERE / "pictures") -> None:
    """All of it; `folder` is where the results are."""
    results = read_all(folder)
    if not results:
        raise SystemExit(f"nothing was measured: {folder} has no results")
    found = list(verdicts(results))
    parts = [INTRODUCTION, *_setting(results), *_goals(results, found), *_behind(results, found), *_growth(results)]
    for group, title in GROUPS.items():
        parts.extend(_group(results, group, title, pictures, target))
    parts.extend(_trouble(results))
    target.write_text("\n".join(parts).rstrip() + "\n")
    print(f"written: {target}")


def _setting(results: list[dict[str, Any]]) -> Iterator[str]:
    yield f"Machine: {machine()}."
    for result in results:
        of = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        much = " (a fifth of the operations)" if result.get("quick") else ""
        yield f"\nPython {_python(result['python'])}{much}: {of}."
        if loads := result.get("loads"):
            load, cores = statistics.median(loads), len(os.sched_getaffinity(0))
            yield f"\nThe load of the machine when a row began: {load:.1f} (median), {max(loads):.1f} at most."
            if load > 2 * cores:  # what the rows themselves cause is less
                yield "\n**Others kept the machine busy meanwhile: these figures are worth little**, the ratios too."


def _python(name: str) -> str:
    return f"{name.removesuffix('t')} free-threaded" if name.endswith("t") else name


def _goals(results: list[dict[str, Any]], found: list[Verdict]) -> Iterator[str]:
    pythons = [result["python"] for result in results]
    asked = [each for each in found if each.asked]
    main = pythons[0]
    reached = sum(each.reached(main) for each in asked)
    yield f"\n## Goals\n\nReached on Python {main}: {reached} of {len(asked)}. **Bold**: not reached.\n"
    yield f"| row | against | goal | {' | '.join(pythons)} |"
    yield f"|---|---|---|{'---|' * len(pythons)}"
    for each in asked:
        goal = f"at least {each.goal:.3g}x" if each.against else f"at most {each.goal:g} {each.unit}"
        cells = " | ".join(_cell(each, python) for python in pythons)
        yield f"| {each.row} | {each.against or 'itself'} | {goal} | {cells} |"
    others = [each for each in found if not each.asked and main in each.seen]
    ahead = sum(each.seen[main][0] >= 1 for each in others)
    yield (
        f"\nThe goal that every row has, ahead of every peer: {ahead} of {len(others)} comparisons on Python {main}"
        f" have a median of 1 or more, {sum(each.reached(main) for each in others) - ahead} are level (within 5 % and"
        " the spread)."
    )


def _cell(verdict: Verdict, python: str) -> str:
    seen = verdict.seen.get(python)
    if seen is None:
        return "-"
    text = f"{seen[0]:.3g}" + ("" if verdict.against else f" {verdict.unit}")
    return text if verdict.reached(python) else f"**{text}**"


def _behind(results: list[dict[str, Any]], found: list[Verdict]) -> Iterator[str]:
    yield "\n## Where treadle is behind a peer, or under its goal\n"
    by_row: dict[tuple[str, str], list[str]] = {}
    for each in found:
        for result in results:
            python = result["python"]
            if python in each.seen and not each.reached(python):
                middle, low, high = each.seen[python]
                what = f"{middle:.2f} {each.unit}"
                if each.against:
                    what = f"{ratio_text(middle)}x {each.against} ({ratio_text(low)} .. {ratio_text(high)})"
                goal = f", goal {each.goal:.3g}" if each.asked else ""
                by_row.setdefault((each.group, each.row), []).append(f"{what}{goal}, on {python}")
    if not by_row:
        yield "Nowhere."
    for (group, row), cases in by_row.items():
        reason = WHY.get(row, "Not understood yet.")
        yield f"- **{row}** ({GROUPS.get(group, group)}): {'; '.join(cases)}. {reason}"


def _growth(results: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n## Growth\n\nTime grows with the axis to the power of the exponent: 1 is linear, 0 is not at all.\n"
    yield "| what | axis | contestant | Python | points | exponent | goal |\n|---|---|---|---|---|---|---|"
    for title, python, sweep in _sweeps(results):
        for line in sweep["lines"]:
            exponent = line["exponent"]
            if exponent != exponent:
                continue
            goal = ""
            if line["kind"] == "treadle" and sweep["goal"] is not None:
                goal = f"at most {sweep['goal']:g}: {'reached' if exponent <= sweep['goal'] else '**not reached**'}"
            first = next(point for point in line["points"] if point >= sweep["fit"])
            points = f"{first:,} to {line['points'][-1]:,}"
            yield f"| {title} | {sweep['axis']} | {line['name']} | {python} | {points} | {exponent:.2f} | {goal} |"


def _sweeps(results: list[dict[str, Any]], group: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for result in results:
        for name, found in result.get("groups", {}).items():
            if group in (None, name):
                for title, sweep in found.get("sweeps", {}).items():
                    yield title, result["python"], sweep


def _group(results: list[dict[str, Any]], group: str, title: str, pictures: Path, target: Path) -> Iterator[str]:
    rows = {name: row for where, name, row in rows_of(results) if where == group}
    sweeps = sorted(_sweeps(results, group), key=lambda each: each[0])
    if group == "scaling":  # of one Python: the lines of several would hide each other
        main = results[0]["python"]
        sweeps = [each for each in sweeps if each[1] == main] or sweeps
    if not rows and not sweeps:
        return
    yield f"\n## {title}\n"
    picture = pictures / f"{group}.svg"
    drawn = charts.bars(title.replace("`", ""), rows, picture) if rows else charts.lines(sweeps, picture)
    if drawn:
        yield f"![{title.replace('`', '')}]({picture.relative_to(target.parent)})\n"
    if not rows:
        return
    pythons = [result["python"] for result in results if group in result.get("groups", {})]
    yield f"| row, contestant | time on {pythons[0]} | {' | '.join(f'ratio on {python}' for python in pythons)} |"
    yield f"|---|---|{'---|' * len(pythons)}"
    for name, row in rows.items():
        yield f"| **{name}** | | {'| ' * len(pythons)}|"
        for each in row["seen"]:
            cells = [_ratio(result, group, name, each["name"]) for result in results if result["python"] in pythons]
            time = each["trouble"] or f"{each['per']:,.2f} {row['unit'].replace('us', 'µs')}"
            limit = " *(limit)*" if each["kind"] == "limit" else ""
            yield f"| {each['name']}{limit} | {time} | {' | '.join(cells)} |"


def _ratio(result: dict[str, Any], group: str, title: str, name: str) -> str:
    row = result.get("groups", {}).get(group, {}).get("rows", {}).get(title, {"seen": []})
    for each in row["seen"]:
        if each["name"] == name and not each["trouble"] and each["ratio"] == each["ratio"]:
            if each is row["seen"][0]:
                return "1"
            return f"{ratio_text(each['ratio'])} ({ratio_text(each['low'])} .. {ratio_text(each['high'])})"
    return "-"


def _trouble(results: list[dict[str, Any]]) -> Iterator[str]:
    found = [
        (result["python"], group, title, trouble)
        for result in results
        for group, each in result.get("groups", {}).items()
        for title, trouble in each.get("trouble", {}).items()
    ]
    if found:
        yield "\n## What could not be measured\n"
        yield from (f"- {title} ({group}), Python {python}: {trouble}" for python, group, title, trouble in found)


if __name__ == "__main__":
    write(*(Path(each) for each in sys.argv[1:4]))
