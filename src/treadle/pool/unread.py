"""Failures that nobody ever looked at: each is logged once, when its future goes or when the program ends.

Looking is whatever asks a future for its end: `result`, `exception`, a callback, a wait.  The core sees it
(`_native/tasks/future_object.c`); a future that did not fail pays nothing for it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

from .._native import _core

if TYPE_CHECKING:
    from .driver import Driver

logger = logging.getLogger("treadle")


class Unread:
    """The futures that hold such a failure.  Thread-safe."""

    def __init__(self) -> None:
        # By id.  Only `dict` operations that are atomic by themselves: a finalizer may come between any two of them.
        self._futures: dict[int, weakref.ref[Any]] = {}

    def add(self, future: Any) -> None:
        """It has failed, and nobody has looked yet."""
        key = id(future)
        self._futures[key] = weakref.ref(future, lambda ref: self._forget(key, ref))

    def _forget(self, key: int, ref: weakref.ref[Any]) -> None:
        if self._futures.get(key) is ref:
            self._futures.pop(key, None)

    def report_all(self) -> None:
        """The program ends: nobody will look any more."""
        for ref in list(self._futures.values()):
            future = ref()
            if future is not None and future._unread:
                _ = future._condition  # once is enough
                report(future._exception)
        self._futures.clear()

    def after_fork(self) -> None:
        """In a forked child: they are the parent's to look at."""
        for ref in list(self._futures.values()):
            future = ref()
            if future is not None:
                _ = future._condition
        self._futures.clear()


unread = Unread()
atexit.register(unread.report_all)  # after `logging` has registered its own end, hence called before it


def report(error: BaseException) -> None:
    """Log a failure that nobody looked at."""
    with contextlib.suppress(Exception):
        logger.error("A task failed, and nobody looked at its future: %s", type(error).__name__, exc_info=error)


def _gone(error: BaseException, driver: Driver | None) -> None:
    """A future with an unread failure was dropped, possibly in the middle of anything: let the reactor's thread log."""
    if driver is None or not driver.reactor.running:
        report(error)
    else:
        driver.reactor.call_soon(lambda: report(error))


_core.hook("unread", _gone)
