"""What other processes do to shared buffers and values: importable."""

from __future__ import annotations

import ctypes
from typing import Any


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def add(value: Any, array: Any, point: Any, raw: Any, text: Any, count: int) -> None:
    for _ in range(count):
        with value.get_lock():
            value.value += 1
        with array:
            array[1] += 2
    with point.get_lock():
        point.x += 1
    raw[0] += 1
    text.value = b"done"


def write(buffer: Any, part: Any) -> None:
    buffer[0] = 7
    part[:] = 9


def take_all(inbox: Any, arrived: Any, over: Any) -> None:
    """Take what is there, keep nothing, and wait."""
    while inbox.get(timeout=20) is not None:
        pass
    arrived.set()
    over.wait(20)


def relay(inbox: Any, outbox: Any) -> None:
    """From child to child: receive, change, send on, and end."""
    shared = inbox.get(timeout=20)
    shared[0] += 1
    outbox.put(shared)
