"""The implementations that each contract suite runs on."""

from __future__ import annotations

import queue as stdlib_queue
import sys
import threading as stdlib_threading

import pytest

from treadle import queue as treadle_queue
from treadle import threading as treadle_threading

THREADING = [pytest.param(treadle_threading, id="treadle"), pytest.param(stdlib_threading, id="stdlib")]
QUEUE = [pytest.param(treadle_queue, id="treadle"), pytest.param(stdlib_queue, id="stdlib")]
HAS_SHUTDOWN = sys.version_info >= (3, 13)


def in_thread(function, *args):
    """Run it in a thread, and return what it returned; the thread is given 10 s."""
    result: list = []
    thread = stdlib_threading.Thread(target=lambda: result.append(function(*args)), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the thread hangs"
    return result[0]


def start(function, *args) -> stdlib_threading.Thread:
    """Run it in a thread that `end` waits for."""
    thread = stdlib_threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def end(*threads: stdlib_threading.Thread) -> None:
    """They end by themselves."""
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread hangs"
