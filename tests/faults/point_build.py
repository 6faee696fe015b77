"""A build of the native core with its named kill points (see _native/system/points.h), made once a test session."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src/treadle/_native"


def points(*files: str) -> list[str]:
    """The names of the points in these C files (as memory/ring.c)."""
    text = "".join((NATIVE / name).read_text() for name in files)
    return sorted(set(re.findall(r'TL_POINT\("([^"]+)"\)', text)))


@pytest.fixture(scope="session")
def with_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to put on PYTHONPATH."""
    pytest.importorskip("setuptools")
    where = tmp_path_factory.mktemp("points")
    command = [sys.executable, "setup.py", "-q", "build", "-j2"]
    command += ["--build-base", str(where), "--build-lib", str(where / "lib")]
    # Optimized as little as may be: it is built anew for each run of the tests.
    environment = {**os.environ, "TREADLE_POINTS": "1", "CFLAGS": "-O1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return where / "lib"
