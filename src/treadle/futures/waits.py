"""`wait` and `as_completed`: the standard library's, for threads that may be workers themselves.

A task that waits for other tasks of its own executor lends its place to them meanwhile, so nothing starves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

# Not from concurrent.futures itself: ours may stand in its place, and be asking for this very module.
from concurrent.futures._base import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, DoneAndNotDoneFutures, Future
from concurrent.futures._base import as_completed as _as_completed
from concurrent.futures._base import wait as _wait
from typing import Any

from ..pool.driver import Driver
from ..pool.waits import SLICE_SECONDS, in_main_thread
from ..pool.waits import wait as wait_in_slices

__all__ = ["as_completed", "wait"]

_Future = Future[Any]


def wait(fs: Iterable[_Future], timeout: float | None = None, return_when: str = ALL_COMPLETED) -> Any:
    """Wait until all of the futures are done, the first one is, or the first one has failed.

    Which of these `return_when` says: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION``; ValueError for
    anything else.  `timeout` is in seconds (None: forever).  Returns the named tuple (done, not_done) of two sets.
    Thread-safe.
    """
    fs = set(fs)
    with contextlib.ExitStack() as stack:
        for driver in _drivers(fs):
            stack.enter_context(driver.waiting("future"))
        if not in_main_thread():
            return _wait(fs, timeout, return_when)
        found = set[_Future](), fs

        def look(seconds: float | None) -> bool:
            nonlocal found
            found = _wait(fs, seconds, return_when)
            return _enough(*found, return_when)

        # In slices, so that a signal that comes just before the sleep is not missed.  Each look costs some time.
        wait_in_slices(look, timeout, max(SLICE_SECONDS, len(fs) * 1e-5))
        return DoneAndNotDoneFutures(*found)


def _enough(done: set[_Future], pending: set[_Future], return_when: str) -> bool:
    if not pending or (done and return_when == FIRST_COMPLETED):
        return True
    return return_when == FIRST_EXCEPTION and any(not f.cancelled() and f.exception() is not None for f in done)


class as_completed(Iterator[_Future]):
    """An iterator over the futures, each when it is done.

    Raises TimeoutError from `next` when `timeout` seconds have passed since this call and some are not done.  Its
    length is the number of futures, for progress displays.
    """

    def __init__(self, fs: Iterable[_Future], timeout: float | None = None) -> None:
        every = set(fs)
        self._length = len(every)
        self._drivers = _drivers(every)
        self._inner = _as_completed(every, timeout)

    def __next__(self) -> _Future:
        lenders = [driver for driver in self._drivers if driver.engine.current_worker() is not None]
        if not lenders:
            return next(self._inner)
        with contextlib.ExitStack() as stack:
            for driver in lenders:
                stack.enter_context(driver.waiting("future"))
            return next(self._inner)

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Forget the rest."""
        self._inner.close()  # type: ignore[attr-defined]


def _drivers(fs: set[_Future]) -> set[Driver]:
    """The pools of those that are not done."""
    found = {getattr(f, "_driver", None) for f in fs if not f.done()}
    found.discard(None)
    return found  # type: ignore[return-value]
