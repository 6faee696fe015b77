"""What a trace costs, with the writing of its file; the first contestant is not recorded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import treadle
from treadle.recording import Recorder

from .harness import Contestant, Row, Work


def compute(steps: int) -> int:
    """A task that takes as long as its steps, however busy the machine is."""
    total = 0
    for number in range(steps):
        total += number
    return total


def identity(x: Any) -> Any:
    return x


def _steps(seconds: float) -> int:
    """How many of them take so long here: by the best of some tries."""
    best = min(_timed(20_000) for _ in range(20))
    return int(20_000 * seconds / best)


def _timed(steps: int) -> float:
    began = time.perf_counter()
    compute(steps)
    return time.perf_counter() - began


def _pool(engine: Any, fn: Callable[[Any], Any], argument: Any, traced: bool) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(treadle.Pool(2, engine))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def plain(count: int) -> None:
            for _ in pool.map(fn, [argument] * count):
                pass

        def recorded(count: int) -> None:
            with Recorder(folder / "trace.json"):
                plain(count)

        return recorded if traced else plain

    return open


def rows() -> list[Row]:
    """All rows of this file."""
    steps = _steps(0.001)
    return [
        Row(title, count, [Contestant(name, _pool(engine, fn, value, name != "treadle")) for name in NAMES])
        for title, count, engine, fn, value in (
            ("trace: tasks that compute for 1 ms, 2 processes", 1000, "processes", compute, steps),
            ("trace: tasks that sleep for 1 ms, 2 threads", 1000, "threads", time.sleep, 0.001),
            ("trace: tasks that do nothing, 2 processes", 20_000, "processes", identity, 1),
        )
    ]


NAMES = ("treadle", "treadle, recorded")
