"""RWLock: many readers, or one writer."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Literal

from treadle._native import _core
from treadle._native._core import Condition, Lock

__all__ = ["RWLock"]


class RWLock:
    """A lock that many may hold for reading at once, or one for writing.

    ``with lock.read:`` and ``with lock.write:`` hold it; `acquire_read`, `release_read`, `acquire_write` and
    `release_write` do the same by hand.  `prefer="writers"` lets no new reader in while a writer waits, `"readers"`
    lets readers in whenever no writer holds it.  A reader may read again, a writer may write and read again; a reader
    that wants to write raises RuntimeError, because two of them could never go on.  Thread-safe; for one process.
    """

    # Invariant: _writer is None or _readers has no thread but the writer.
    # Invariant: _depth == 0 <=> _writer is None.

    def __init__(self, *, prefer: Literal["writers", "readers"] = "writers", name: str | None = None) -> None:
        if prefer not in ("writers", "readers"):
            raise ValueError(f"prefer={prefer!r}: 'writers' or 'readers' is needed")
        self._lock = Lock(name=name)
        self._may_read = Condition(self._lock)
        self._may_write = Condition(self._lock)
        self._prefer_writers = prefer == "writers"
        self._name = name
        self._readers: Counter[int] = Counter()
        self._writer: int | None = None
        self._depth = 0
        self._writers_waiting = 0
        self._readers_waiting = 0

    @property
    def read(self) -> _Side:
        """A context manager that holds the lock for reading."""
        return _Side(self, False)

    @property
    def write(self) -> _Side:
        """A context manager that holds the lock for writing."""
        return _Side(self, True)

    def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Hold it for reading; wait at most `timeout` seconds (-1: forever).  Return whether it is held."""
        limit = _limit(blocking, timeout)
        me = _core.thread_token()

        def may() -> bool:
            if self._writer is not None:
                return self._writer == me
            return me in self._readers or not (self._prefer_writers and self._writers_waiting)

        with self._lock:
            if not may():
                self._readers_waiting += 1
                try:
                    if limit == 0 or not self._may_read.wait_for(may, limit):
                        return False
                finally:
                    self._readers_waiting -= 1
            self._readers[me] += 1
            return True

    def release_read(self) -> None:
        """Undo one `acquire_read` of this thread.  RuntimeError if there was none."""
        me = _core.thread_token()
        with self._lock:
            if me not in self._readers:
                raise RuntimeError("release_read() without acquire_read() in this thread")
            self._readers[me] -= 1
            if not self._readers[me]:
                del self._readers[me]
            if not self._readers:
                self._may_write.notify()

    def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Hold it for writing; wait at most `timeout` seconds (-1: forever).  Return whether it is held."""
        limit = _limit(blocking, timeout)
        me = _core.thread_token()

        def may() -> bool:
            return self._writer is None and not self._readers

        with self._lock:
            if self._writer == me:
                self._depth += 1
                return True
            if me in self._readers:
                raise RuntimeError("a reader can't become a writer: release_read() first")
            if not may():
                self._writers_waiting += 1
                try:
                    if limit == 0 or not self._may_write.wait_for(may, limit):
                        return False
                finally:
                    self._writers_waiting -= 1
                    if self._writer is None and not self._writers_waiting:  # it gave up: readers need not wait for it
                        self._may_read.notify_all()
            self._writer = me
            self._depth = 1
            return True

    def release_write(self) -> None:
        """Undo one `acquire_write` of this thread.  RuntimeError if it isn't the writer."""
        with self._lock:
            if self._writer != _core.thread_token():
                raise RuntimeError("release_write() without acquire_write() in this thread")
            self._depth -= 1
            if self._depth:
                return
            self._writer = None
            if self._writers_waiting and (self._prefer_writers or not self._readers_waiting):
                if not self._readers:
                    self._may_write.notify()
            else:
                self._may_read.notify_all()
            if self._readers:  # what the writer itself has read meanwhile
                self._may_read.notify_all()

    def __repr__(self) -> str:
        name = "" if self._name is None else f" name={self._name!r}"
        state = "writing" if self._writer is not None else f"readers={len(self._readers)}" if self._readers else "free"
        waiting = self._readers_waiting + self._writers_waiting
        return f"<treadle.RWLock{name} at {id(self):#x}: {state} waiters={waiting}>"


def _limit(blocking: bool, timeout: float) -> float | None:
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    if timeout == -1:
        return None
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    return timeout


class _Side:
    """One way to hold an `RWLock`, as a context manager."""

    __slots__ = ("_lock", "_write")

    def __init__(self, lock: RWLock, write: bool) -> None:
        self._lock = lock
        self._write = write

    def __enter__(self) -> RWLock:
        if self._write:
            self._lock.acquire_write()
        else:
            self._lock.acquire_read()
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._write:
            self._lock.release_write()
        else:
            self._lock.release_read()


RWLock.__module__ = "treadle.threading"
