"""Ctrl-C and SIGTERM: at once before the job begins, then only while it waits, so that no result that has arrived is
lost before it is written.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

__all__ = ["Stopped", "Stops"]

T = TypeVar("T")


class Stopped(KeyboardInterrupt):
    """A signal asked the job to stop.  `code` is the exit code that says so."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.code = 128 + signum


class Stops:
    """While it is installed, the first stop signal raises `Stopped`: at once until `watch` is called, then only while
    `watch` waits for an item, or before it waits for the next.

    The second is ignored, for the job is stopping; the third ends the process at once, should that hang.
    """

    def __init__(self) -> None:
        self._waiting = True
        self._came: list[int] = []  # the stop signals so far
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[Stops]:
        """Handle the signals until the block ends.  Only in the main thread."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup
                self._before[signum] = signal.signal(signum, self._handle)
        try:
            yield self
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def watch(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; a stop signal interrupts the wait for the next one, and nothing else."""
        while True:
            self._waiting = True  # before the look at the list: a signal can't slip between
            try:
                if self._came:
                    raise Stopped(self._came[0])
                item = next(items)
            except StopIteration:
                return
            finally:
                self._waiting = False
            yield item

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._came.append(signum)
        if len(self._came) == 1 and self._waiting:
            raise Stopped(signum)
        if len(self._came) > 2:
            os._exit(128 + signum)
