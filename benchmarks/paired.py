"""Two ways of doing the same, compared to a fraction of a percent, on a machine that does other things as well.

Each round of the one has a round of the other beside it, with the order changing from pair to pair.  Of each pair the
ratio counts, and of all ratios the median; the range behind it is where the median of such ratios is, in 95 of 100
runs.  Besides the time on the clock there is the processor time of all threads and processes that had a part: what
others do on the machine changes it much less.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .harness import Row, Seen

CLOCK, PROCESSORS = ", by the clock", ", by processor time"


class Cost(NamedTuple):
    """Of a round, in seconds an operation."""

    wall: float
    cpu: float


# Does a round, and says what it cost.
Round = Callable[[], Cost]


class Pair(NamedTuple):
    """`open` enters what both need into the stack: the way that is the measure, and the one that is compared to it."""

    title: str
    names: tuple[str, str]
    open: Callable[[ExitStack], tuple[Round, Round]]
    # How often all is set up anew.  Where the two ways run in processes of their own, one process may be some percent
    # faster than another one that does the very same, for as long as both live: where its memory lies decides.
    instances: int = 1
    goal: float = 0.0  # how many times as long as the measure the other one should take at most; 0: none


def processor_time(pids: Iterable[int]) -> float:
    """What the living threads of these processes have used, in seconds."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(path.read_text().split()[0])
    return total / 1e9


def timed(work: Callable[[], object], count: int, pids: Callable[[], Iterable[int]] = lambda: ()) -> Cost:
    """Do it once, which is so many operations.  `pids`: of the other processes that have a part in it."""
    others = list(pids())
    cpu, began = time.process_time() + processor_time(others), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    return Cost(wall / count, (time.process_time() + processor_time(others) - cpu) / count)


def run(pair: Pair, rounds: int) -> list[Seen]:
    """Measure; the way that is compared comes first, and the ratios are of the measure to it, as in other rows."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for instance in range(pair.instances):
        with ExitStack() as stack:
            both = pair.open(stack)
            for work in both:
                work()  # warm up
            measured: tuple[list[Cost], list[Cost]] = ([], [])
            for turn in range(instance, instance + max(3, rounds // pair.instances)):
                for which in (0, 1) if turn % 2 == 0 else (1, 0):
                    gc.collect()
                    measured[which].append(both[which]())
        for all, new in zip(costs, measured, strict=True):
            all.extend(new if pair.instances == 1 else [_median(new)])
    measure, compared = pair.names
    seen = [Seen(f"treadle, {compared}", "treadle", _median(costs[1]).wall * 1e6, 1.0, 1.0, 1.0)]
    for what, how in (("wall", CLOCK), ("cpu", PROCESSORS)):
        ratios = [getattr(a, what) / getattr(b, what) for a, b in zip(*costs, strict=True)]
        per = statistics.median(getattr(each, what) for each in costs[0]) * 1e6
        seen.append(Seen(measure + how, "limit", per, statistics.median(ratios), *interval(ratios)))
    return seen


def row(pair: Pair) -> Row:
    """What the report is to know of it."""
    goal = 1 / pair.goal if pair.goal else 0.0
    return Row(pair.title, 0, [], {pair.names[0] + how: goal for how in (CLOCK, PROCESSORS)})


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))


def interval(values: list[float]) -> tuple[float, float]:
    """Where the median of what these come from is, in 95 of 100 cases, whatever the distribution."""
    ordered, count = sorted(values), len(values)
    reach = 0.98 * count**0.5
    return ordered[max(0, int(count / 2 - reach))], ordered[min(count - 1, int(count / 2 + reach))]
