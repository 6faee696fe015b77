"""Rows, rounds and ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

# Does the work once, for that many operations; what it needs to set up is done before.  A float that it returns is the
# seconds that count, in place of those that the call took.
Work = Callable[[int], object]


class Contestant(NamedTuple):
    """`open` enters what it needs into the stack, and returns the work; ImportError means: not installed."""

    name: str
    open: Callable[[ExitStack], Work]
    share: float = 1.0  # of the row's operations that it does: a slow one need not take all day


class Row(NamedTuple):
    """The first contestant is treadle's."""

    title: str
    count: int  # operations a round
    contestants: list[Contestant]


def run(row: Row, rounds: int, scale: float) -> None:
    """Measure a row and print it: microseconds an operation, and how many times as long as treadle."""
    print(f"\n{row.title}")
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        works: list[tuple[Contestant, Work, int]] = []
        for contestant in row.contestants:
            try:
                work = contestant.open(stack)
            except ImportError as error:
                print(f"  {contestant.name:<34} not installed ({error.name})")
                continue
            count = max(1, int(row.count * contestant.share * scale))
            work(max(1, count // 20))  # warm up: workers started, code paths seen
            works.append((contestant, work, count))
            times[contestant.name] = []
        if not works:
            return
        for turn in range(rounds):
            order = works[turn % len(works) :] + works[: turn % len(works)]
            for contestant, work, count in order:
                gc.collect()
                began = time.perf_counter()
                counts = work(count)
                seconds = counts if isinstance(counts, float) else time.perf_counter() - began
                times[contestant.name].append(seconds / count)
    first = row.contestants[0].name
    for name, each in times.items():
        ratios = sorted(theirs / ours for theirs, ours in zip(each, times[first], strict=True))
        spread = f"{ratios[0]:6.2f} .. {ratios[-1]:6.2f}"
        print(f"  {name:<34} {statistics.median(each) * 1e6:9.2f} us   x {statistics.median(ratios):6.2f}   ({spread})")
