"""How many CPUs this process may really use: affinity, cgroup quotas and Python's own override respected."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path


def available_cpus() -> int:
    """The number of CPUs to plan workers for, at least 1.

    It is the smallest of what the affinity mask allows and what the control groups' CPU quotas pay for, rounded up.
    ``-X cpu_count=N`` and ``PYTHON_CPU_COUNT`` override both where Python knows them (3.13 and later).
    """
    if sys.version_info >= (3, 13):
        allowed = os.process_cpu_count() or 1
        if _overridden():
            return allowed
    else:
        allowed = len(os.sched_getaffinity(0))
    quota = cgroup_cpus()
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _overridden() -> bool:
    if "cpu_count" in sys._xoptions:
        return str(sys._xoptions["cpu_count"]) != "default"
    return not sys.flags.ignore_environment and os.environ.get("PYTHON_CPU_COUNT", "default") != "default"


def cgroup_cpus(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs that the control groups' quotas pay for, or None where there is no quota.

    A group is bound by each of its ancestors, so the smallest quota on the way to the root counts.
    """
    found: list[float] = []
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            found += _walk(root, path, _quota_v2)
            found += _walk(root / "unified", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            found += _walk(root / controllers, path, _quota_v1)
            found += _walk(root / "cpu", path, _quota_v1)
    return min(found, default=None)


def _walk(mount: Path, path: str, quota: object) -> list[float]:
    assert callable(quota)
    return [value for folder in cgroup_folders(mount, path) if (value := quota(folder)) is not None]


def cgroup_folders(mount: Path, path: str) -> list[Path]:
    """A control group and those that it is in, innermost first; not all of them need to exist.

    In a container the path of the host may not exist under the mount: the mount's own root is then the group.
    """
    here = mount / path.strip("/")
    return [here, *(folder for folder in here.parents if folder == mount or mount in folder.parents)]


def _quota_v2(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if limit <= 0 else limit / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
