"""kill -9 at each named point of the ring and the segments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from point_build import NATIVE, points

HERE = Path(__file__).parent
SOURCES = (
    "memory/ring.c",
    "memory/cells.c",
    "memory/segment.c",
    "values/loan.c",
    "queues/ring_object.c",
    "queues/ring_sides.c",
    "queues/receipts.c",
)

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not NATIVE.exists(), reason="not a source tree"),
    pytest.mark.timeout(240),
]


@pytest.mark.parametrize("time", [1, pytest.param(4, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("point", points(*SOURCES) if NATIVE.exists() else [])
def test_killed_at(with_points: Path, point: str, time: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(with_points)}
    environ.pop("TREADLE_BOARD", None)
    done = subprocess.run(
        [sys.executable, str(HERE / "ring_victim.py"), f"{point}:{time}"],
        env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok")


@pytest.mark.parametrize("how", ["get", "take"])
@pytest.mark.parametrize("maxsize", [0, 3])
@pytest.mark.parametrize("kills", [40, pytest.param(400, marks=pytest.mark.heavy)])
def test_storm(how: str, maxsize: int, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "ring_storm.py"), str(kills), how, str(maxsize), str(random.randrange(1 << 30))],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"
