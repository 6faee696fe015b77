"""Waiting without missing a signal.

A signal that arrives between Python's last look for one and the moment when its thread really sleeps is noted, but
wakes nobody: the sleeper sleeps on, and a Ctrl-C seems to be ignored.  On a busy machine that moment is long enough to
be met.  So the thread in which signal handlers run sleeps in slices.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable

from .._native import _core

# A subinterpreter may have no daemon threads.  When it is closed it ends its pools first, then waits for its threads.
DAEMON: bool = getattr(_thread, "daemon_threads_allowed", lambda: True)()

SLICE_SECONDS = 0.1
LOOK_SECONDS = 0.9  # after which the main thread looks whether everybody else waits, too


def in_main_thread() -> bool:
    """Is this the thread in which a signal handler may raise, between any two steps?"""
    return threading.get_ident() == threading.main_thread().ident


def wait(sleep: Callable[[float | None], bool], timeout: float | None = None, pause: float = SLICE_SECONDS) -> bool:
    """Call `sleep(seconds)` until it returns True, or for `timeout` seconds (None: for ever) in all; True if it did.

    In the main thread it sleeps for `pause` seconds at a time.
    """
    if not in_main_thread():
        return sleep(timeout)
    until = None if timeout is None else time.monotonic() + timeout
    told, look = False, 0.0
    try:
        while True:
            left = pause if until is None else min(pause, until - time.monotonic())
            if sleep(max(0.0, left)):
                return True
            if until is not None and time.monotonic() >= until:
                return False
            if until is None and not told:  # for whoever asks: a slice's time-out is none of the wait's
                told = True
                _core.sliced_wait(pause)
                look = time.monotonic() + LOOK_SECONDS
            elif told and time.monotonic() >= look:
                look = time.monotonic() + _core.idle()
    finally:
        if told:
            _core.sliced_wait(-1.0)
