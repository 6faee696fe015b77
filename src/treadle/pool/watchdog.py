"""A callback of the user's that does not return holds up a thread of the pool's; this says so, and names it.

It runs in the pool's own thread (or a worker thread), so until it returns nothing else that this thread has to do gets
done.  It can't be ended from outside, but it must not hang in silence.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from .._native import _core
from .waits import DAEMON

PATIENCE = 5.0  # seconds that a callback may take before it is named
LOOK = 1.0  # seconds between two looks

logger = logging.getLogger("treadle")


class _Entry:
    __slots__ = ("fn", "args", "since", "told")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.since = time.monotonic()
        self.told = False


class Watchdog:
    """Watches the callbacks that run now.  Thread-safe; its thread lives only while there are any."""

    def __init__(self) -> None:
        # By thread, a stack: a callback may settle other futures.  Each list is changed by its own thread alone.
        self._running: dict[int, list[_Entry]] = {}
        self._lock = threading.Lock()  # guards: _thread.  A leaf
        self._thread: threading.Thread | None = None
        self._look = threading.Event()  # set: look at once

    def call(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call `fn`, and say so when it takes longer than `PATIENCE`."""
        me = threading.get_ident()
        entries = self._running.get(me)
        if entries is None:
            entries = self._running[me] = []
        entries.append(_Entry(fn, args))
        if self._thread is None:
            self._start()
        try:
            fn(*args)
        finally:
            entries.pop()
            if not entries:
                self._running.pop(me, None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._watch, name="treadle-watchdog", daemon=DAEMON)
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # the program ends, or can have no more threads
                return
            self._thread = thread

    def _watch(self) -> None:
        _core.thread_role("service")
        while True:
            self._look.wait(LOOK)
            self._look.clear()
            with self._lock:
                # Who comes after this starts another thread; who came before is seen here.
                self._thread = None
                if not self._running:
                    return
                self._thread = threading.current_thread()
            now = time.monotonic()
            for ident, entries in list(self._running.items()):
                for entry in entries[-1:]:
                    if not entry.told and now - entry.since >= PATIENCE:
                        entry.told = True
                        self._tell(ident, entry, now - entry.since)

    def rest(self) -> None:
        """Let the thread go at once, if no callback runs, and wait until it has gone."""
        thread = self._thread
        if thread is not None and not self._running:
            self._look.set()
            thread.join(LOOK)

    @staticmethod
    def _tell(ident: int, entry: _Entry, seconds: float) -> None:
        name = next((t.name for t in threading.enumerate() if t.ident == ident), str(ident))
        frame = sys._current_frames().get(ident)
        where = "".join(traceback.format_stack(frame)[-4:]) if frame is not None else ""
        logger.warning(
            "A callback has not returned for %.0f s, and thread %s of a pool waits for it: %r\n%s",
            seconds, name, entry.fn, where.rstrip(),
        )  # fmt: skip

    def after_fork(self) -> None:
        """In a forked child: the callbacks are the parent's."""
        self._lock = threading.Lock()
        self._running = {}
        self._thread = None
        self._look = threading.Event()


watchdog = Watchdog()
os.register_at_fork(after_in_child=watchdog.after_fork)
