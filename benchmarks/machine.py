"""What the figures are of: the class of machine, and the versions."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "treadle", "aiologic", "billiard", "culsans", "dask", "faster-fifo", "joblib", "loky", "mpire", "numpy", "pebble",
    "pyzmq", "ray",
)  # fmt: skip


def free_threaded() -> bool:
    """Whether threads of this Python run at the same time."""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def python_name() -> str:
    """Its version; with a t at its end if it is free-threaded."""
    return platform.python_version() + ("t" if free_threaded() else "")


def versions() -> dict[str, str]:
    """The packages that are installed here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        from joblib.externals import loky

        found.setdefault("loky", f"{loky.__version__} (joblib's)")
    except ImportError:
        pass
    return found


def machine() -> str:
    """The class of machine, in a line."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    virtual = any(line.startswith("flags") and " hypervisor" in line for line in _lines("/proc/cpuinfo"))
    cores = len(os.sched_getaffinity(0))
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{cores} core{'s' if cores > 1 else ''} ({cpu}{', a virtual machine' if virtual else ''}), "
        f"{memory / 2**20:.0f} GB of memory, Linux {kernel}, {'-'.join(platform.libc_ver())}, {platform.machine()}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
