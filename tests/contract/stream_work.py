"""What the workers of `test_streams.py` run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path


def count(number: int) -> Iterator[tuple[int, int]]:
    for position in range(number):
        yield number, position


def forever(path: str) -> Iterator[tuple[int, bytes]]:
    """Writes down how far it has come; says when it is closed."""
    position = 0
    try:
        while True:
            Path(path).write_text(str(position))
            yield position, bytes(4000)
            position += 1
    finally:
        Path(path + ".closed").touch()


def large(number: int) -> Iterator[bytes]:
    for _ in range(number):
        yield bytes(300_000)


def break_off(how: str, folder: str = "") -> Iterator[int]:
    if folder:
        Path(folder, str(time.monotonic_ns())).touch()
    yield 1
    yield 2
    if how == "raises":
        raise ValueError("in the middle")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(60)
    if how == "unpicklable":
        yield threading.Lock()  # type: ignore[misc]
    yield 3


def fail_first(folder: str) -> Iterator[int]:
    Path(folder, str(time.monotonic_ns())).touch()
    if len(list(Path(folder).iterdir())) < 3:
        raise OSError("not yet")
    yield 1
    yield 2


def pids(number: int) -> Iterator[int]:
    for _ in range(number):
        yield os.getpid()


def gated(path: str) -> Iterator[int]:
    yield 1
    until = time.monotonic() + 20
    while not Path(path).exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    yield 2
