"""``treadle doctor``: what it finds out about the environment, and what it makes of it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from treadle.diagnose import health


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def doctor(*arguments: str, descriptors: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    command = [sys.executable, "-m", "treadle", "doctor", *arguments]
    before = limit if descriptors is not None else None
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=before)


def test_limits_of_version_2(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner",
            "sys/fs/cgroup/outer/cpu.max": "150000 100000",
            "sys/fs/cgroup/outer/inner/cpu.max": "max 100000",
            "sys/fs/cgroup/outer/inner/memory.max": "1073741824",
            "sys/fs/cgroup/outer/inner/memory.current": "1000",
            "sys/fs/cgroup/outer/memory.max": "max",
            "sys/fs/cgroup/outer/pids.max": "77",
        },
    )
    assert health.cgroup_limits(root) == {
        "version": 2, "cpus": 1.5, "memory": 1 << 30, "memory_used": 1000, "pids": 77,
    }  # fmt: skip


def test_limits_of_version_1(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:pids:/",
            # In a container the path is one of the host's, and the group itself is mounted.
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
            "sys/fs/cgroup/pids/pids.max": "max",
        },
    )
    assert health.cgroup_limits(root) == {
        "version": 1, "cpus": 0.5, "memory": None, "memory_used": 5, "pids": None,
    }  # fmt: skip


def test_no_control_groups(tmp_path: Path) -> None:
    assert health.cgroup_limits(tmp_path)["version"] is None


def test_more_workers_than_processors_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, Any] = {"version": 2, "cpus": 1.0, "memory": None, "memory_used": None, "pids": None}
    monkeypatch.setattr(health, "cgroup_limits", lambda: limits)
    monkeypatch.setattr(health.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(health, "available_cpus", lambda: 8)
    finding = health._processor_limit()
    assert finding.verdict == "wrong"
    assert "Pool(workers=1)" in finding.text


def test_what_raises_is_a_finding() -> None:
    def _a_lock() -> health.Finding:
        raise OSError("no luck")

    finding = health._guarded(_a_lock)
    assert (finding.name, finding.verdict) == ("a lock", "wrong")
    assert "no luck" in finding.text


def test_it_measures_and_judges() -> None:
    ran = doctor("--json")
    found = {each["name"]: each for each in json.loads(ran.stdout)}
    assert ran.returncode == int(any(each["verdict"] == "wrong" for each in found.values()))
    assert {"Python", "processors", "memory", "/dev/shm", "start-up", "a lock", "a queue"} <= set(found)
    assert found["Python"]["values"]["executable"] == sys.executable
    assert found["a lock"]["values"]["seconds"] > 0
    assert found["a thread pool"]["values"]["round_trip"] > 0
    assert found["a process pool"]["values"]["tasks_per_second"] > 0


def test_what_is_wrong_says_what_to_do() -> None:
    ran = doctor("--quick", descriptors=40)
    assert ran.returncode == 1
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("WRONG  open files")]
    assert "ulimit -n" in line
    assert doctor("--quick", "--json").stdout.count('"verdict"') >= 8
