"""CPython's own suites for the modules that our faces stand in for, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("test.lock_tests", reason="this Python is installed without its test package")

HARNESS = Path(__file__).with_name("harness.py")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "module", ["lock_tests", "test_queue", "test_threading", "test_threading_local", "test_sched"]
)  # fmt: skip
def test_suite(module: str) -> None:
    done = subprocess.run([sys.executable, str(HARNESS), module], capture_output=True, text=True, timeout=380)
    counts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert counts["failed"] == []
    assert counts["run"] > 10
    assert counts["unused_skips"] == [], "a skip without a test: take it out of skips.py"
