"""What the workers of `test_initializers.py` run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import types
from typing import Any

seen: Any = threading.local()
with contextlib.suppress(ImportError):
    from concurrent.interpreters import get_current, get_main

    if get_current() != get_main():  # which has one thread only, and there a `threading.local` lasts for one call
        seen = types.SimpleNamespace()


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
