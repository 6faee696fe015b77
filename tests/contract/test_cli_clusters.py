"""`treadle map --engine dask` and `--engine ray`, as a user types it, on real clusters."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cluster_work
import pytest
from engine_work import engines

JOBS = """
import os, time

def double(x):
    if x % 50 == 7:
        raise ValueError("bad", x)
    return {"twice": x * 2}

def slow(x):
    time.sleep(0.01)
    return x

def where(x):
    return os.environ.get("TREADLE_TEST_PART")
"""

COUNT = 600
pytestmark = pytest.mark.parametrize("name", engines("dask", "ray"))


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Start the command in a folder that has a module and its input."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "in.jsonl").write_text("".join(f"{x}\n" for x in range(COUNT)))

    def start(function: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "treadle", "map", f"jobs:{function}", "in.jsonl", *options],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def ended(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = child.communicate(timeout=100)
    return child.returncode, output, errors


def test_the_same_as_at_home(name: str, job: Any, tmp_path: Path) -> None:
    there = ended(job("double", "-o", "there.jsonl", "--engine", name, "--address", cluster_work.address[name]))
    here = ended(job("double", "-o", "here.jsonl", "--engine", "processes"))
    assert there[0] == here[0] == 1, there  # some have failed
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    failed = (tmp_path / "there.jsonl.errors.jsonl").read_text()
    assert failed.count("\n") == COUNT // 50 and "in double" in failed
    code, output, _ = ended(job("where", "--engine", name, "--address", cluster_work.address[name], "--timeout", "30"))
    assert code == 0 and output.count("\n") == COUNT and "null" not in output, "all of them ran on the cluster"


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.by_hand)]
)
def test_it_goes_on_where_it_was_interrupted(name: str, how: signal.Signals, job: Any, tmp_path: Path) -> None:
    options = ("-o", "out.jsonl", "--engine", name, "--address", cluster_work.address[name], "--workers", "2")
    child = job("slow", *options)
    out = tmp_path / "out.jsonl"
    cluster_work.until(lambda: out.exists() and out.read_bytes().count(b"\n") > 50)
    child.send_signal(how)
    code, _, errors = ended(child)
    assert code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how], errors
    assert out.read_bytes().count(b"\n") < COUNT
    code, _, errors = ended(job("slow", *options, "--resume"))
    assert code == 0, errors
    ended(job("slow", "-o", "here.jsonl", "--engine", "threads"))
    assert out.read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_nobody_there(name: str, job: Any) -> None:
    code, _, errors = ended(job("double", "--engine", name, "--address", "127.0.0.1:1"))
    assert code == 3 and "127.0.0.1:1" in errors and "Traceback" not in errors, errors
    code, _, errors = ended(job("double", "--engine", "threads", "--address", "127.0.0.1:1"))
    assert code == 2 and "has no address" in errors, errors
