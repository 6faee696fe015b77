"""Tasks for long runs."""

from __future__ import annotations

import os
import time


def nap(path: str, i: int, seconds: float) -> int:
    """Note it, then take so long."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{i}\n".encode())
    finally:
        os.close(fd)
    time.sleep(seconds)
    return i
