"""What `Queue.take()` returns: an object that stays the queue's until it is finished."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, TypeVar

from treadle._native._core import SharedQueue

__all__ = ["Receipt"]

T = TypeVar("T")


class Receipt(Generic[T]):
    """``with queue.take() as item:``: see `Queue.take`.  For one thread at a time; a forked child's copy is void."""

    # Invariant: _held is [value, cell, position, attempt] exactly while the object is this receipt's.  The core fills
    # it when it takes, so no interrupt can come in between.

    def __init__(self, queue: SharedQueue, block: bool, timeout: float | None, counts: bool) -> None:
        self._queue = queue
        self._how = (block, timeout)
        self._counts = counts
        self._held: list[Any] = []

    def __enter__(self) -> Receipt[T]:
        if self._held:
            raise RuntimeError("this receipt is in use: call take() once for each object")
        self._queue._take(self._held, *self._how)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(kind is None)

    def __del__(self) -> None:
        if self._held:  # an interrupt came between taking it and the block
            self._settle(False)

    def _settle(self, done: bool) -> None:
        if self._held:
            _, cell, position, _ = self._held
            self._held = []
            self._queue._settle(cell, position, done, self._counts)

    @property
    def value(self) -> T:
        """The object."""
        value: T = self._entered()[0]
        return value

    @property
    def attempt(self) -> int:
        """How often it was taken, this time included: 1 the first time."""
        attempt: int = self._entered()[3]
        return attempt

    def _entered(self) -> list[Any]:
        if not self._held:
            raise RuntimeError("take() gives the object inside of a with statement only")
        return self._held
