"""The environment: what there is, how fast it is, and what of it is a reason to act.

What can't be found out is said to be unknown, never taken for good.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from treadle import sync
from treadle.pool.cpus import available_cpus, cgroup_cpus, cgroup_folders
from treadle.pool.pool import Pool
from treadle.queues.local import Queue

__all__ = ["Finding", "cgroup_limits", "examine"]

Verdict = Literal["ok", "note", "wrong"]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """`verdict` is "ok", "note" (it may matter) or "wrong" (`text` says what to do); `values` are the figures."""

    name: str
    verdict: Verdict
    text: str
    values: dict[str, Any]


def examine(measure: bool = True) -> Iterator[Finding]:
    """All findings, one by one; with `measure` also those that take a moment."""
    yield _python()
    yield _lock()
    yield _processors()
    yield _processor_limit()
    yield _memory()
    yield _shared_memory()
    yield _descriptors()
    yield _processes()
    yield _start_method()
    yield _visibility()
    if measure:
        for measured in (_import_time, _locks, _queues, _thread_pool, _process_pool):
            yield _guarded(measured)


def _guarded(measured: Callable[[], Finding]) -> Finding:
    try:
        return measured()
    except Exception as error:  # that it fails is a finding
        name = measured.__name__.strip("_").replace("_", " ")
        text = f"it can't be measured, because it doesn't work here: {type(error).__name__}: {error}"
        return Finding(name, "wrong", text, {})


# -- what there is


def _python() -> Finding:
    version = platform.python_version()
    values = {"version": version, "implementation": platform.python_implementation(), "executable": sys.executable}
    text = f"{values['implementation']} {version}, {sys.executable}"
    if sys.flags.dev_mode or hasattr(sys, "gettotalrefcount"):
        return Finding("Python", "note", f"{text}: a debug build or -X dev, which is much slower", values)
    return Finding("Python", "ok", text, values)


def _lock() -> Finding:
    enabled: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    values = {"gil": enabled}
    if enabled:
        text = "on: threads take turns at Python code; for work that computes use processes (engine='auto' does)"
    else:
        text = "off: threads run Python code at the same time"
    return Finding("interpreter lock", "ok", text, values)


def _processors() -> Finding:
    there, ours = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    values = {"processors": there, "usable": ours, "load": load}
    text = f"{ours} usable" + (f" of {there}" if ours < there else "") + f", load {load:.1f}"
    if ours == 1:
        text += "; with one processor nothing runs at the same time: more workers help only where work waits"
        return Finding("processors", "note", text, values)
    if load > 1.5 * there:
        text += "; others keep them busy: what is measured below is slower than it should be"
        return Finding("processors", "note", text, values)
    return Finding("processors", "ok", text, values)


def cgroup_limits(root: Path = Path("/")) -> dict[str, Any]:
    """What control groups (version 1 or 2) allow: "cpus", "memory" (bytes), "pids"; None: no limit is known."""
    found: dict[str, Any] = {"version": None, "cpus": None, "memory": None, "memory_used": None, "pids": None}
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    base = root / "sys/fs/cgroup"
    found["cpus"] = cgroup_cpus(root / "proc/self/cgroup", base)
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found["version"] = found["version"] or 2
            for folder in map(Path, cgroup_folders(base, path)):
                _least(found, "memory", _number(_read(folder / "memory.max")))
                _least(found, "pids", _number(_read(folder / "pids.max")))
                if found["memory_used"] is None:
                    found["memory_used"] = _number(_read(folder / "memory.current"))
        else:
            for controller in controllers.split(","):
                for folder in map(Path, cgroup_folders(base / controller, path)):
                    if controller == "memory":
                        _least(found, "memory", _number(_read(folder / "memory.limit_in_bytes")))
                        found["memory_used"] = _number(_read(folder / "memory.usage_in_bytes")) or found["memory_used"]
                    elif controller == "pids":
                        _least(found, "pids", _number(_read(folder / "pids.max")))
                    found["version"] = 1
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    # Version 1 says "no limit" with a number that is larger than any machine.
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None


def _least(found: dict[str, Any], key: str, value: float | None) -> None:
    if value is not None and (found[key] is None or value < found[key]):
        found[key] = value


def _processor_limit() -> Finding:
    limits = cgroup_limits()
    usable = len(os.sched_getaffinity(0))
    workers = available_cpus()
    values = {"cgroup": limits["version"], "cpus": limits["cpus"], "workers": workers}
    if limits["version"] is None:
        return Finding("processor limit", "ok", "no control group is known", values)
    if limits["cpus"] is None or limits["cpus"] >= usable:
        text = f"none (control groups, version {limits['version']}); pools make {workers} workers"
        return Finding("processor limit", "ok", text, values)
    text = f"the container may use {limits['cpus']:g} of {usable} processors"
    if workers > max(1, round(limits["cpus"] + 0.5)):
        better = max(1, int(limits["cpus"]))
        text += f", but pools would make {workers} workers: say Pool(workers={better}), or set PYTHON_CPU_COUNT"
        return Finding("processor limit", "wrong", text, values)
    return Finding("processor limit", "ok", f"{text}; pools make {workers} workers", values)


def _memory() -> Finding:
    limits = cgroup_limits()
    available = _meminfo("MemAvailable")
    if limits["memory"] is not None:
        left = limits["memory"] - (limits["memory_used"] or 0)
        available = left if available is None else min(available, left)
    values = {"available": available, "limit": limits["memory"]}
    if available is None:
        return Finding("memory", "note", "unknown", values)
    text = f"{available / MIB:,.0f} MiB available"
    if limits["memory"] is not None:
        text += f" (the container's limit is {limits['memory'] / MIB:,.0f} MiB)"
    if available < 64 * MIB * available_cpus():
        text += (
            "; that is little for a worker on each processor: say Pool(workers=...) with fewer, or give it more memory"
        )
        return Finding("memory", "wrong", text, values)
    return Finding("memory", "ok", text, values)


def _meminfo(key: str) -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def _shared_memory() -> Finding:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        text = (
            "there is no /dev/shm: treadle doesn't need it, multiprocessing.shared_memory and others do; mount a tmpfs"
        )
        return Finding("/dev/shm", "note", text, {"free": None})
    values = {"free": usage.free, "size": usage.total}
    text = f"{usage.free / MIB:,.0f} of {usage.total / MIB:,.0f} MiB free; treadle doesn't need it"
    if usage.free < 64 * MIB:
        text += ", but others (torch, multiprocessing.shared_memory) may die of SIGBUS: docker run --shm-size=1g"
        return Finding("/dev/shm", "note", text, values)
    return Finding("/dev/shm", "ok", text, values)


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 64 + 8 * available_cpus()
    values = {"soft": soft, "hard": hard}
    text = f"{soft} open files are allowed"
    if soft != resource.RLIM_INFINITY and soft < need:
        text += f", a pool on each processor needs about {need}: ulimit -n {min(4096, hard) if hard > 0 else 4096}"
        return Finding("open files", "wrong", text, values)
    return Finding("open files", "ok", text, values)


def _processes() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    pids = cgroup_limits()["pids"]
    least = min(
        (each for each in (soft if soft != resource.RLIM_INFINITY else None, pids) if each is not None), default=None
    )
    values = {"limit": least}
    if least is None:
        return Finding("processes", "ok", "no limit", values)
    text = f"at most {least} processes and threads of this user"
    if least < 16 + 8 * available_cpus():
        return Finding("processes", "wrong", f"{text}: raise it (ulimit -u, docker run --pids-limit)", values)
    return Finding("processes", "ok", text, values)


def _start_method() -> Finding:
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    values = {"standard_library": method, "treadle": "forkserver"}
    text = "treadle: forkserver; the standard library here: " + method
    if method == "fork" and threading.active_count() > 1:
        text += ", which may deadlock in a program with threads"
        return Finding("start method", "note", text, values)
    return Finding("start method", "ok", text, values)


def _visibility() -> Finding:
    """Can processes see each other as `treadle why` needs it?"""
    sleeper = [sys.executable, "-c", "input()"]
    with subprocess.Popen(sleeper, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        try:
            os.listdir(f"/proc/{child.pid}/fd")
            seen = True
        except OSError:
            seen = False
        child.communicate(b"\n")
    if seen:
        return Finding(
            "looking at others",
            "ok",
            "processes of this user may be looked at (treadle why, treadle top)",
            {"seen": True},
        )
    text = "/proc hides this user's processes: treadle why, top and shared queues don't work; mount it without hidepid"
    return Finding("looking at others", "wrong", text, {"seen": False})


# -- how fast it is


def _best(action: Callable[[], Any], times: int) -> float:
    """Seconds: the least of some runs, which others disturbed least."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _import_time() -> Finding:
    def start(code: str) -> float:
        return _best(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3)

    bare, ours = start("pass"), start("import treadle; treadle.Pool")
    values = {"python": bare, "treadle": ours - bare}
    text = f"Python {bare * 1e3:.0f} ms, treadle {max(0.0, ours - bare) * 1e3:.0f} ms more"
    if bare > 0.5:
        text += "; Python itself starts slowly: a slow disk, or many .pth files (python -X importtime tells)"
        return Finding("start-up", "note", text, values)
    return Finding("start-up", "ok", text, values)


def _locks() -> Finding:
    def loop(lock: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(100_000):
                with lock:
                    pass

        return run

    ours, theirs = _best(loop(sync.Lock()), 5) / 1e5, _best(loop(threading.Lock()), 5) / 1e5
    values = {"seconds": ours, "standard_library": theirs}
    text = f"{ours * 1e9:.0f} ns to take and give back (the standard library: {theirs * 1e9:.0f} ns)"
    if ours > 1e-6:
        text += "; that is slow: a debug build, a tracer or an emulated processor?"
        return Finding("a lock", "wrong", text, values)
    return Finding("a lock", "ok", text, values)


def _queues() -> Finding:
    queue: Queue[int] = Queue()

    def run() -> None:
        for number in range(20_000):
            queue.put(number)
            queue.get()

    seconds = _best(run, 5) / 2e4
    values = {"seconds": seconds}
    text = f"{seconds * 1e9:.0f} ns to put and get"
    if seconds > 10e-6:
        return Finding("a queue", "wrong", f"{text}; that is slow: a debug build or a tracer?", values)
    return Finding("a queue", "ok", text, values)


def _trips(pool: Any, times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        pool.submit(abs, 1).result()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _thread_pool() -> Finding:
    with Pool(workers=1, engine="threads") as pool:
        _trips(pool, 20)
        trip = _trips(pool, 300)
    values = {"round_trip": trip}
    return Finding("a thread pool", "ok", f"{trip * 1e6:.0f} us for a task, there and back", values)


def _process_pool() -> Finding:
    start = time.perf_counter()
    with Pool(workers=1, engine="processes") as pool:
        pool.submit(abs, 1).result()
        first = time.perf_counter() - start
        trip = _trips(pool, 300)
        begun = time.perf_counter()
        count = sum(1 for _ in pool.map(abs, range(20_000)))
        rate = count / (time.perf_counter() - begun)
    values = {"start": first, "round_trip": trip, "tasks_per_second": rate}
    text = f"{first * 1e3:.0f} ms to start, {trip * 1e6:.0f} us there and back, {rate:,.0f} tasks/s"
    if trip > 0.005:
        text += "; that is slow: are the processors busy, or is this an emulated machine?"
        return Finding("a process pool", "note", text, values)
    return Finding("a process pool", "ok", text, values)
