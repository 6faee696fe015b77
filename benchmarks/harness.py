"""Rows, sweeps, rounds and ratios."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Literal, NamedTuple

# Does the work once, for that many operations; what it needs to set up is done before.  A float that it returns is what
# counts for all of them, in seconds or in the row's own unit, in place of the time that the call took.
Work = Callable[[int], object]

Kind = Literal["treadle", "peer", "limit"]


class Contestant(NamedTuple):
    """`open` enters what it needs into the stack, and returns the work; ImportError means: not installed."""

    name: str
    open: Callable[[ExitStack], Work]
    share: float = 1.0  # of the row's operations that it does: a slow one need not take all day
    limit: bool = False  # not a peer, but what the machine itself needs for the bare minimum

    @property
    def kind(self) -> Kind:
        """Treadle's contestants are known by their names."""
        return "limit" if self.limit else "treadle" if self.name.startswith("treadle") else "peer"


class Row(NamedTuple):
    """The first contestant is treadle's."""

    title: str
    count: int  # operations a round
    contestants: list[Contestant]
    # How many times as long as treadle each must take; a peer that is not named: once.  A name of "" is treadle's own
    # goal, in the row's unit.
    goals: Mapping[str, float] = {}
    unit: str = "us"  # of one operation; another one than "us" is what the works return
    turn: float = 0.15  # seconds that a contestant's turn takes at most: it does fewer operations if it is slow
    rounds: int = 99  # at most so many, if a turn takes long
    quick: bool = True  # also where time is short


class Sweep(NamedTuple):
    """A row for each point of an axis."""

    title: str
    axis: str  # what the points count
    points: tuple[int, ...]
    row: Callable[[int], Row]
    whole: bool  # the time of all operations of a point, or of one
    fit: int = 0  # the exponent of growth is that of the points from this one on
    goal: float | None = None  # that treadle's exponent should not exceed
    quick: float = math.inf  # the largest point that is measured where time is short


class Seen(NamedTuple):
    """What one contestant took: for an operation, in the row's unit, and beside treadle in the same round."""

    name: str
    kind: Kind
    per: float = math.nan  # the median
    ratio: float = math.nan  # how many times as long as treadle: the median, the least, the most
    low: float = math.nan
    high: float = math.nan
    trouble: str = ""  # instead of all that: not installed, or what it raised


def run(row: Row, rounds: int, scale: float) -> list[Seen]:
    """Measure a row; with a scale below 1, fewer operations and shorter turns."""
    times: dict[str, list[float]] = {}
    trouble: dict[str, str] = {}
    with ExitStack() as stack:
        works: list[tuple[str, Work, int]] = []
        for contestant in row.contestants:
            times[contestant.name] = []
            count = max(1, int(row.count * contestant.share * scale))
            try:
                work = contestant.open(stack)
                works.append((contestant.name, work, _warm(work, count, row.turn * scale)))
            except ImportError as error:
                trouble[contestant.name] = f"not installed ({error.name})"
            except Exception as error:  # a peer's fault is its own
                trouble[contestant.name] = f"{type(error).__name__}: {error}"
        for turn in range(min(rounds, row.rounds)):
            at = turn % max(1, len(works))
            for name, work, count in works[at:] + works[:at]:
                if name in trouble:
                    continue
                try:
                    times[name].append(_timed(work, count) / count)
                except Exception as error:
                    trouble[name] = f"{type(error).__name__}: {error}"
    scaled = 1e6 if row.unit == "us" else 1.0
    ours = times[row.contestants[0].name]
    return [_seen(each, times[each.name], ours, trouble.get(each.name, ""), scaled) for each in row.contestants]


def _warm(work: Work, count: int, turn: float) -> int:
    """Start workers and see code paths; how many operations it can do in its turn, up to `count`."""
    few, more = max(1, count // 20), max(1, count // 8)
    first = _timed(work, few)
    if math.isinf(turn):
        return count
    if more == few:
        each = first / few
    else:  # what every call costs, be it of one operation, is not the operations'
        second = _timed(work, more)
        each = (second - first) / (more - few) if second > first else second / more
    return max(few, min(count, int(turn / max(each, 1e-9))))


def _timed(work: Work, count: int) -> float:
    gc.collect()
    began = time.perf_counter()
    counts = work(count)
    took = time.perf_counter() - began
    return counts if isinstance(counts, float) else took


def _seen(contestant: Contestant, each: list[float], ours: list[float], trouble: str, scale: float) -> Seen:
    if trouble or not each:
        return Seen(contestant.name, contestant.kind, trouble=" ".join(trouble.split())[:200] or "not measured")
    per = statistics.median(each) * scale
    ratios = sorted(theirs / mine for theirs, mine in zip(each, ours, strict=False) if mine)
    if not ratios:
        return Seen(contestant.name, contestant.kind, per)
    return Seen(contestant.name, contestant.kind, per, statistics.median(ratios), ratios[0], ratios[-1])


class Line(NamedTuple):
    """One contestant of a sweep."""

    name: str
    kind: Kind
    points: list[int]
    seconds: list[float]
    exponent: float  # time grows with the points to the power of this; nan: too few points


def sweep(what: Sweep, rounds: int, scale: float) -> list[Line]:
    """Measure a sweep; who would take too long at a point has none from there on."""
    longest = 4.0 * scale
    lines: dict[str, Line] = {}
    slow: set[str] = set()
    for index, point in enumerate(what.points):
        row = what.row(point)
        row = row._replace(contestants=[each for each in row.contestants if each.name not in slow])
        if not row.contestants:
            break
        # The operations are the point itself: not scaled.
        for seen in run(row, rounds, 1.0):
            if seen.trouble:
                slow.add(seen.name)
                continue
            seconds = seen.per / 1e6 * (point if what.whole else 1)
            line = lines.setdefault(seen.name, Line(seen.name, seen.kind, [], [], math.nan))
            line.points.append(point)
            line.seconds.append(seconds)
            following = what.points[index + 1] if index + 1 < len(what.points) else point
            turn = seconds * following / point if what.whole else seconds * row.count
            if turn > longest:
                slow.add(seen.name)
    return [line._replace(exponent=_exponent(line, what.fit)) for line in lines.values()]


def _exponent(line: Line, fit: int) -> float:
    logs = [
        (math.log(x), math.log(y))
        for x, y in zip(line.points, line.seconds, strict=True)
        if x >= fit and x > 0 and y > 0
    ]
    if len(logs) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def text(title: str, unit: str, seen: Iterable[Seen]) -> str:
    """A row as it is printed."""
    lines = [f"\n{title}"]
    for each in seen:
        if each.trouble:
            lines.append(f"  {each.name:<42} {each.trouble}")
            continue
        spread = f"({ratio_text(each.low):>6} .. {ratio_text(each.high):>6})"
        lines.append(f"  {each.name:<42} {each.per:11.2f} {unit}   x {ratio_text(each.ratio):>6}   {spread}")
    return "\n".join(lines)


def ratio_text(ratio: float) -> str:
    """More places where they tell something: at what is nearly the same."""
    return f"{ratio:.4f}" if 0.95 < ratio < 1.05 and ratio != 1 else f"{ratio:.2f}"


def sweep_text(title: str, axis: str, lines: Iterable[Line]) -> str:
    """A sweep as it is printed."""
    found = [f"\n{title}, against {axis}"]
    for line in lines:
        points = "  ".join(f"{x:g}: {y:.3g}" for x, y in zip(line.points, line.seconds, strict=True))
        found.append(f"  {line.name:<34} exponent {line.exponent:5.2f}   {points}")
    return "\n".join(found)
