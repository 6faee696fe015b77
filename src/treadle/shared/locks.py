"""The locks that a manager makes: those of `treadle.sync.shared`, called as the proxies of the standard library."""

from __future__ import annotations

from treadle.sync import shared

__all__ = ["BoundedSemaphore", "Condition", "Lock", "RLock", "Semaphore"]

# Their `acquire` takes (blocking=True, timeout=None), as in `threading`, not (block=True, timeout=None).


class Lock(shared.Lock):
    """See `treadle.sync.shared.Lock`.  To release a free one is a RuntimeError."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(blocking, timeout)

    def release(self) -> None:
        try:
            super().release()
        except ValueError:
            raise RuntimeError("release unlocked lock") from None


class RLock(shared.RLock):
    """See `treadle.sync.shared.RLock`.  To release somebody else's is a RuntimeError."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(blocking, timeout)

    def release(self) -> None:
        try:
            super().release()
        except AssertionError:
            raise RuntimeError("cannot release un-acquired lock") from None


class Semaphore(shared.Semaphore):
    """See `treadle.sync.shared.Semaphore`."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(blocking, timeout)


class BoundedSemaphore(shared.BoundedSemaphore):
    """See `treadle.sync.shared.BoundedSemaphore`."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(blocking, timeout)


class Condition(shared.Condition):
    """See `treadle.sync.shared.Condition`."""

    def __init__(self, lock: Lock | RLock | None = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return self._lock.acquire(blocking, timeout)
