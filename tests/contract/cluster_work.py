"""Real clusters for the tests: every part is a process of its own, spoken to over TCP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment(folder: Path) -> dict[str, str]:
    """For the parts of a cluster: they find the functions of the tests, and keep their files together."""
    return {**os.environ, "PYTHONPATH": str(HERE), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}


class DaskCluster:
    """A scheduler, and workers of one thread each."""

    def __init__(self, folder: Path, workers: int = 3) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._parts: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show")
        until(self._file.exists)
        self.address: str = json.loads(self._file.read_text())["address"]
        self.workers = [self.add_worker() for _ in range(workers)]

    def add_worker(self) -> subprocess.Popen[bytes]:
        return self._start(
            "dask_worker",
            "--nthreads",
            "1",
            "--no-nanny",
            "--memory-limit",
            "0",
            "--local-directory",
            str(self._folder),
        )

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{module}.log", "ab") as log:
            part = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(self._file),
                 "--no-dashboard", *arguments],
                env=environment(self._folder), stdout=log, stderr=log, cwd=self._folder,
            )  # fmt: skip
        self._parts.append(part)
        return part

    def close(self) -> None:
        for part in reversed(self._parts):
            with contextlib.suppress(ProcessLookupError):
                part.send_signal(signal.SIGTERM)
        for part in reversed(self._parts):
            try:
                part.wait(5)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()


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


def listens(port: int) -> bool:
    """Does somebody, on this machine?"""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


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
