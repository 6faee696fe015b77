"""One page of shared memory a worker: what it runs, since when, and how far it may go.

The worker writes what it starts *before* it starts it, so after a kill -9 at any moment the page names the one task
that may have had side effects.  Each field is an aligned 8-byte word with a single writer, stored and loaded whole.
"""

from __future__ import annotations

import mmap
import os
import threading

SIZE = mmap.PAGESIZE

CURRENT = 0  # sequence number of the task that runs, or ran last; 0: none.  Written by the worker.
SINCE = 1  # when it started, CLOCK_MONOTONIC in ns.  Written by the worker, before CURRENT.
CPU = 2  # CPU time (see busy.own) in ns when its function was called.  Written by the worker, before CALLED.
CALLED = 3  # when its function was called, after loading; 0: not yet.  Written by the worker, when it is measured.
QUEUED = 4  # as CPU, the time in the run queue.  Written by the worker, before CALLED.
LIMIT = 5  # the worker starts nothing with a higher sequence number.  Written by the parent.

NO_LIMIT = (1 << 64) - 1


class Page:
    """A mapping of the page.  Once it is closed, reading `words` raises ValueError."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("Q")
        self._fence = threading.Lock()

    @classmethod
    def create(cls) -> tuple[Page, int]:
        """A new page, without a name in any file system, and the descriptor to open it by."""
        fd = os.memfd_create("treadle-worker", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, SIZE)
            page = cls(fd)
        except OSError:
            os.close(fd)
            raise
        page.words[LIMIT] = NO_LIMIT
        return page, fd

    def may_start(self, seq: int, now: int) -> bool:
        """The worker's side: publish that `seq` starts; False if it was revoked meanwhile.

        Store CURRENT, then load LIMIT; the parent stores LIMIT, then loads CURRENT.  With a full fence between the two
        on both sides, at least one of them sees the other's store.  Taking a lock is such a fence on x86; elsewhere
        the parent's pause (see `revoke`) outlasts any store buffer.
        """
        words = self.words
        words[SINCE] = now
        words[CALLED] = 0
        words[CURRENT] = seq
        # SYNC POINT: revoke (the other side is `revoke`)
        with self._fence:
            pass
        if seq <= words[LIMIT]:
            return True
        words[CURRENT] = 0
        return False

    def called(self, now: int, cpu: int, queued: int) -> None:
        """The worker's side: what it started is loaded, now the function is called."""
        self.words[CPU] = cpu
        self.words[QUEUED] = queued
        self.words[CALLED] = now

    def revoke(self, pause: float) -> int:
        """The parent's side: let nothing further start.  Returns the highest sequence number that may have."""
        words = self.words
        words[LIMIT] = words[CURRENT]
        # SYNC POINT: revoke (the other side is `may_start`)
        with self._fence:
            _pause(pause)
        return max(words[LIMIT], words[CURRENT])

    def restore(self) -> None:
        """The parent's side: what is sent from now on may start."""
        self.words[LIMIT] = NO_LIMIT

    def close(self) -> None:
        """Unmap it.  Idempotent."""
        self.words.release()
        self._map.close()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
