"""Real clusters for the tests: every part is a process of its own, spoken to over TCP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from treadle.testing.leaks import descendants

HERE = Path(__file__).parent
MARK = "TREADLE_TEST_PART"  # in the environment of all processes of a part

address: dict[str, str] = {}  # of the clusters that are there for all tests, by engine


class Part:
    """A scheduler, a worker, a head or a node: a process and all that comes of it, none of them below this one."""

    def __init__(self, folder: Path, log: str, *arguments: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / log
        environ = {
            **os.environ, **environment, MARK: self.mark, "PYTHONPATH": str(HERE), "TMPDIR": str(folder),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        # By a shell that leaves at once: what a test leaves behind is looked for below the tests' own process.
        script = 'exec >>"$0" 2>&1 </dev/null; setsid "$@" & echo $! >"$0.pid"'
        subprocess.run(["sh", "-c", script, str(self.log), sys.executable, *arguments], env=environ, check=True)
        self.pid = int(Path(f"{self.log}.pid").read_text())

    def processes(self) -> list[int]:
        """Those that live."""
        return marked(self.mark)

    def said(self, words: str) -> bool:
        """Is that in its log?"""
        return self.log.exists() and words in self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """Is its first process?"""
        return self.pid in self.processes()

    def kill(self) -> None:
        """As if its machine had lost its power."""
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def marked(mark: str) -> list[int]:
    """Processes that live and have that mark."""
    line = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and line in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class DaskCluster:
    """A scheduler, and workers of one thread each."""

    def __init__(self, folder: Path, workers: int = 3) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._parts: list[Part] = []
        try:
            self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show")
            until(lambda: self._file.exists() and self._file.read_text().endswith("}"))
            self.address: str = json.loads(self._file.read_text())["address"]
            self.workers = [self.add_worker() for _ in range(workers)]
        except BaseException:
            self.close()
            raise

    def add_worker(self) -> Part:
        return self._start(
            "dask_worker", "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory",
            str(self._folder),
        )  # fmt: skip

    def _start(self, module: str, *arguments: str) -> Part:
        name = f"{module}-{len(self._parts)}.log"
        part = Part(
            self._folder, name, "-m", f"distributed.cli.{module}", "--scheduler-file", str(self._file),
            "--no-dashboard", *arguments,
        )  # fmt: skip
        self._parts.append(part)
        return part

    def left(self) -> list[int]:
        """Processes that pools have in it: those of stations, below the one that starts them."""
        starters = [pid for part in self.workers for pid, _ in descendants(part.pid) if parent(pid) == part.pid]
        return [pid for starter in starters for pid, _ in descendants(starter)]

    def close(self) -> None:
        for part in reversed(self._parts):
            part.kill()


class RayCluster:
    """A head without a CPU, and nodes; their addresses are those that Ray makes of 127.0.0.1."""

    def __init__(self, folder: Path, cpus: tuple[int, ...]) -> None:
        self._folder = folder
        # Where Ray keeps its sockets, whose paths must not be long.
        self._home = tempfile.mkdtemp(prefix="r", dir="/tmp")
        self._parts: list[Part] = []
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        try:
            self.head = self._start(
                0, "--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", self._home
            )
            self.nodes = [self.add_node(count) for count in cpus]
        except BaseException:
            self.close()
            raise

    def add_node(self, cpus: int = 1) -> Part:
        return self._start(cpus, "--address", self.address)

    def _start(self, cpus: int, *arguments: str) -> Part:
        """One after the other: two that start at once take each other's ports."""
        part = Part(
            self._folder, f"ray-{len(self._parts)}.log", "-m", "ray.scripts.scripts", "start", "--node-ip-address",
            "127.0.0.1", "--block", "--num-cpus", str(cpus), "--object-store-memory", str(80 << 20),
            "--disable-usage-stats", *arguments, **RAY_ENVIRONMENT,
        )  # fmt: skip
        self._parts.append(part)
        until(lambda: part.said("Ray runtime started") or not part.alive(), 150)
        assert part.alive(), part.log.read_text()
        return part

    def left(self) -> list[int]:
        """Processes that pools have in it: those of stations, below the one that starts them, below an actor."""
        found = []
        for part in self._parts:
            for pid in part.processes():
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Actor"):
                        starters = [starter for starter, _ in descendants(pid) if parent(starter) == pid]
                        found += [each for starter in starters for each, _ in descendants(starter)]
        return found

    def close(self) -> None:
        for part in reversed(self._parts):
            part.kill()
        shutil.rmtree(self._home, ignore_errors=True)


# No tokens, no collecting of lines, and time to start on a machine that has much to do.
RAY_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0", "RAY_raylet_start_wait_time_s": "120"}


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int = 3) -> Iterator[DaskCluster]:
    """A cluster with all its workers there."""
    cluster = DaskCluster(folder, workers)
    try:
        import distributed

        with distributed.Client(cluster.address, timeout=30) as client:
            client.wait_for_workers(workers, timeout=30)
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def ray_cluster(folder: Path, cpus: tuple[int, ...] = (1, 1)) -> Iterator[RayCluster]:
    """A cluster with a node for each of these numbers of CPUs, all there."""
    cluster = RayCluster(folder, cpus)
    try:
        yield cluster
    finally:
        cluster.close()


def parent(pid: int) -> int:
    """Its parent, 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.01)


def free_port() -> int:
    """One that nobody listens at, a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# -- what the tests' functions do, besides those of contract_work


def brief(x: int) -> int:
    time.sleep(0.001)
    return x * 3


def mixed(x: int) -> int:
    """Sometimes it fails; what comes out depends on nothing but x."""
    if x % 100 == 37:
        raise KeyError(x)
    return x * x


def size(data: Any, x: int) -> int:
    return len(data) + x


def crash_at_five(x: int) -> int:
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x
