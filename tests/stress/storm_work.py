"""What the workers of `test_pool_storm.py` run."""

from __future__ import annotations

import os
import time

_fd = -1


def open_book(path: str) -> None:
    """Where the tasks write down what becomes of them: two bytes each, how often it began and how often it ended."""
    global _fd
    _fd = os.open(path, os.O_RDWR)


def work(number: int, milliseconds: float) -> int:
    _count(2 * number)
    time.sleep(milliseconds / 1000)
    _count(2 * number + 1)
    return number


def _count(position: int) -> None:
    # No other process runs this task at the same time.
    (before,) = os.pread(_fd, 1, position)
    os.pwrite(_fd, bytes([before + 1]), position)
