"""A lock between threads and processes that goes by a file: the kernel releases it when its owner ends, however."""

from __future__ import annotations

import fcntl
import os
import time
from types import TracebackType

from treadle.sync import Lock

__all__ = ["FileLock"]


class FileLock:
    """Not reentrant.  Works between programs that have nothing in common but the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Invariant: flock() locks belong to the open file, so each process opens it for itself (see `forked`).
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._threads = Lock(name=f"lock of {path}")

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """True if it was taken.  A wait can be interrupted by signals."""
        until = None if block and timeout is None else time.monotonic() + (timeout or 0.0 if block else 0.0)
        if not self._threads.acquire(block, -1 if until is None or not block else max(timeout or 0.0, 0.0)):
            return False
        try:
            if until is not None:
                return self._try(until)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            return True
        except BaseException:
            self._threads.release()
            raise

    def _try(self, until: float) -> bool:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= until:
                    self._threads.release()
                    return False
                time.sleep(0.001)  # the kernel has no timed wait for it

    def release(self) -> None:
        """By the thread that has it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._threads.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def forked(self) -> None:
        """In a forked child: have an open file of its own, so that it never holds its parent's lock."""
        mine = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(mine, self._fd, inheritable=False)
        os.close(mine)
        self._threads = Lock(name=f"lock of {self._path}")

    def close(self) -> None:
        os.close(self._fd)
