"""Shared locks and their kin survive kill -9: at each named point of the core, and at random moments."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from point_build import NATIVE, points

HERE = Path(__file__).parent
SCRIPTS = {"points": HERE / "shared_points.py", "storm": HERE / "shared_storm.py"}
KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]
FILES = [
    *sorted(f"sync/{path.name}" for path in (NATIVE / "sync").glob("shared_*.c")),
    "board/board.c",
    "board/lock.c",
    "memory/arena.c",
    "memory/permits.c",
    "memory/rounds.c",
]
POINTS = points(*FILES)
# Their victim comes by once only.
ONCE = ("arena.bury", "permits.recover", "lock.recovered")
SLOW = ("arena.fork.child",)  # a child that dies before it runs is believed to come for ten seconds


def run(script: str, *arguments: str, path: Path | None = None, timeout: float = 100) -> str:
    environment = dict(os.environ)
    environment.pop("TREADLE_BOARD", None)  # a session of its own: what it leaves behind is counted
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, str(SCRIPTS[script]), *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _cases() -> list[object]:
    cases: list[object] = []
    for point in POINTS:
        marks = [pytest.mark.heavy] if point in SLOW else []
        cases.append(pytest.param(point, 1, marks=marks, id=point))
        if not point.startswith(ONCE + SLOW):
            cases.append(pytest.param(point, 9, marks=[pytest.mark.heavy], id=f"{point}-9th"))
    return cases


@pytest.mark.once
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("point", "nth"), _cases())
def test_killed_at_each_point(with_points: Path, point: str, nth: int) -> None:
    """The others go on, and nothing is lost or left behind.  (The script fails if nobody came by that point.)"""
    run("points", point, str(nth), path=with_points)


def test_the_points_are_found() -> None:
    assert len(POINTS) == len(set(POINTS)) > 25


@pytest.mark.once
@pytest.mark.timeout(120)
def test_storms() -> None:
    """Each step of four processes is cut short somewhere; those who live go on, and exclusion holds throughout.

    All kinds at once: each ends with a wait of ten seconds, for what a child had that was killed before it ran.
    """
    with ThreadPoolExecutor(len(KINDS)) as threads:
        for said in threads.map(lambda kind: run("storm", kind, "40"), KINDS):
            assert "40 kills" in said


@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_long_storm(kind: str) -> None:
    assert "2000 kills" in run("storm", kind, "2000", timeout=380)
