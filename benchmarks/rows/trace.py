"""What a trace costs, with the writing of its file: of two rounds beside each other one is recorded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import treadle
from treadle.recording import Recorder

from ..paired import Cost, Pair, Round, timed

GOAL = 1.02  # times as long as not recorded, at most
NAMES = ("not recorded", "recorded")


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


def _both(
    engine: Any, fn: Callable[[Any], Any], argument: Any, count: int
) -> Callable[[ExitStack], tuple[Round, Round]]:
    def open(stack: ExitStack) -> tuple[Round, Round]:
        pool = stack.enter_context(treadle.Pool(2, engine))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def work() -> None:
            for _ in pool.map(fn, [argument] * count):
                pass

        def recorded() -> None:
            with Recorder(folder / "trace.json"):
                work()

        def pids() -> list[int]:
            return [worker.pid for worker in pool.stats().workers if worker.pid] if engine == "processes" else []

        def round(work: Callable[[], None]) -> Cost:
            return timed(work, count, pids)

        return lambda: round(work), lambda: round(recorded)

    return open


def pairs() -> list[Pair]:
    """All of this file."""
    steps = _steps(0.001)
    return [
        Pair(title, NAMES, _both(engine, fn, value, count), goal=goal)
        for title, count, engine, fn, value, goal in (
            ("trace: tasks that compute for 1 ms, 2 processes", 1000, "processes", compute, steps, GOAL),
            ("trace: tasks that sleep for 1 ms, 2 threads", 1000, "threads", time.sleep, 0.001, GOAL),
            ("trace: tasks that do nothing, 2 processes", 20_000, "processes", identity, 1, 0.0),
        )
    ]
