"""kill -9 at each named point of the recorder: what was recorded stays, and the session can record again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from point_build import points

HERE = Path(__file__).parent
POINTS = points("board/trace.c")
# The n-th time that a process comes there: at its first chunk, and in a later one.
TIMES = {point: (1, 2) if "chunk" in point else (1, 60, 150) if "slot" in point else (1,) for point in POINTS}
ALL = [(point, time) for point in POINTS for time in TIMES[point]]
INSIDE = [(point, time) for point, time in ALL if "chunk" in point or "slot" in point]

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]


def killed(core: Path, how: str, point: str, time: int) -> None:
    environ = {**os.environ, "PYTHONPATH": f"{core}{os.pathsep}{HERE}"}
    environ.pop("TREADLE_BOARD", None)
    done = subprocess.run(
        [sys.executable, str(HERE / "trace_points.py"), how, f"{point}:{time}"],
        env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ok killed\n"), done.stdout + done.stderr


@pytest.mark.parametrize(("point", "time"), ALL)
def test_who_has_begun_it(with_points: Path, point: str, time: int) -> None:
    killed(with_points, "begins", point, time)


@pytest.mark.parametrize(("point", "time"), ALL)
def test_the_program(with_points: Path, point: str, time: int) -> None:
    killed(with_points, "runs", point, time)


@pytest.mark.parametrize(("point", "time"), INSIDE)
def test_a_worker(with_points: Path, point: str, time: int) -> None:
    killed(with_points, "works", point, 1 if "chunk" in point else time)
