"""What the workers of `test_initializers.py` run."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

seen = threading.local()


def remember(value: object) -> None:
    seen.value = value
    seen.times = getattr(seen, "times", 0) + 1


def recall(_: object = None) -> tuple[object, int]:
    return seen.value, seen.times


def fail(how: str) -> None:
    if how == "raises":
        raise ValueError("error in initializer")
    if how == "exits":
        sys.exit(3)
    if how == "ends":
        os._exit(4)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crashes":
        import faulthandler

        faulthandler.disable()
        ctypes.string_at(0)
    if how == "hangs":
        time.sleep(60)
