"""How many CPUs this process may really use: affinity, cgroup quotas and Python's own override respected."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

StrPath = str | os.PathLike[str]


def interpreter_lock() -> bool:
    """Do the threads of this Python share one interpreter lock, so that only one of them computes at a time?"""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


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


def cgroup_cpus(proc: StrPath = "/proc/self/cgroup", root: StrPath = "/sys/fs/cgroup") -> float | None:
    """CPUs that the control groups' quotas pay for, or None where there is no quota.

    A group is bound by each of its ancestors, so the smallest quota on the way to the root counts.
    """
    found: list[float] = []
    try:
        lines = _read(proc).splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            found += _walk(root, path, _quota_v2)
            found += _walk(f"{root}/unified", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            found += _walk(f"{root}/{controllers}", path, _quota_v1)
            found += _walk(f"{root}/cpu", path, _quota_v1)
    return min(found, default=None)


def _read(path: StrPath) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _walk(mount: StrPath, path: str, quota: Callable[[str], float | None]) -> list[float]:
    return [value for folder in cgroup_folders(mount, path) if (value := quota(folder)) is not None]


def cgroup_folders(mount: StrPath, path: str) -> list[str]:
    """A control group and those that it is in, innermost first; not all of them need to exist.

    In a container the path of the host may not exist under the mount: the mount's own root is then the group.
    """
    parts = [part for part in path.split("/") if part]
    return ["/".join([str(mount), *parts[:count]]) for count in range(len(parts), -1, -1)]


def _quota_v2(folder: str) -> float | None:
    try:
        limit, period = _read(f"{folder}/cpu.max").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        limit = int(_read(f"{folder}/cpu.cfs_quota_us"))
        period = int(_read(f"{folder}/cpu.cfs_period_us"))
        return None if limit <= 0 else limit / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
