"""Callbacks of a pool: one at a time, as in the standard library, whose pool has a thread for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Callbacks:
    """Calls one after the other, in the thread that brings the first while none is being called.

    Programs rely on it: a callback that appends to a list and counts needs no lock.  Whoever brings another one
    meanwhile does not wait.
    """

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._calling = threading.Lock()  # held by the thread that calls; a leaf: it is only ever tried
        self._caller: int | None = None  # that thread

    def call(self, job: Callable[[], None]) -> None:
        """Have it called, now or after those that are due.  It must not raise."""
        self._due.append(job)
        while self._due and self._calling.acquire(blocking=False):  # else its holder looks again after releasing it
            self._caller = threading.get_ident()
            try:
                while self._due:
                    self._due.popleft()()
            finally:
                self._caller = None
                self._calling.release()

    @property
    def inside(self) -> bool:
        """Does the calling thread call one?"""
        return self._caller == threading.get_ident()
