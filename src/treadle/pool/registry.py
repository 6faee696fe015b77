"""The pools that are alive, for the two moments that concern them all: the program's end, and a fork."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .driver import Driver

# Only `dict` operations that are atomic by themselves: a finalizer may come between any two of them.
_live: dict[int, tuple[Driver, bool]] = {}
_first: list[Callable[[], None]] = []
_hooks = -1  # of the program's end, when ours was the last one that was registered


def before_exit(hook: Callable[[], None]) -> None:
    """Call it before the pools finish their tasks at the end of the program, unless that is ended by Ctrl-C."""
    _first.append(hook)


def add(driver: Driver, finish: bool) -> None:
    """From now until `discard`: when the program ends, finish its tasks first (or, without `finish`, drop them)."""
    _live[id(driver)] = (driver, finish)
    _run_first()


def discard(driver: Driver) -> None:
    """It has closed."""
    _live.pop(id(driver), None)


def _at_exit() -> None:
    """Leaving the program finishes the work, without a ritual.  Leaving it by Ctrl-C ends it."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    drivers = list(_live.values())
    try:
        if not interrupted:
            for hook in _first:
                hook()
        for driver, finish in drivers:
            if interrupted or not finish:
                driver.terminate()
            else:
                driver.shutdown()
        for driver, _ in drivers:
            driver.wait_closed()
    except BaseException:  # a second thought while the work was being finished: Ctrl-C, most likely
        for driver, _ in drivers:
            driver.terminate()
        raise


def _after_fork() -> None:
    drivers = list(_live.values())
    _live.clear()
    for driver, _ in drivers:
        driver.after_fork()


def _run_first() -> None:
    """Have our hook run before those that have been registered meanwhile.

    That of `concurrent.futures` has executors refuse new work, which tasks, and the clusters of others, need until the
    pools have finished.
    """
    global _hooks
    hooks = getattr(threading, "_threading_atexits", ())
    if len(hooks) != _hooks:
        # Before the interpreter joins its threads, the last one first.  When it runs again, no pool is left.
        with contextlib.suppress(RuntimeError):  # the hooks run already
            threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
        _hooks = len(hooks)


_run_first()
os.register_at_fork(after_in_child=_after_fork)
