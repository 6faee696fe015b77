"""What becomes of a map's items when they have ended."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from .._native import _core
from .failures import describe_task
from .results import resolve
from .task import CANCELLED, Task

NOTHING = object()  # what `Inbox.next_value` gives when there is no plain value to be had at once


class Outcome:
    """How one item ended: its `value` if `ok`, else its `error`, an exception.  `index` is its place in the input."""

    __slots__ = ("index", "item", "ok", "value", "error")
    __match_args__ = ("index", "item", "ok", "value", "error")

    def __init__(self, index: int, item: Any, ok: bool, value: Any, error: BaseException | None) -> None:
        self.index = index
        self.item = item
        self.ok = ok
        self.value = value
        self.error = error

    def _values(self) -> tuple[Any, ...]:
        return self.index, self.item, self.ok, self.value, self.error

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Outcome) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in zip(self.__slots__, self._values(), strict=True))
        return f"Outcome({values})"


# An inbox: see `_native/tasks/inbox_object.c`, where also stands how far a map runs ahead of its reader.
Inbox = _core.Inbox
LARGEST = _core.INBOX_LARGEST  # items that a map may be ahead, without a `buffer`


class Slot(_core.SlotCore):
    """One item between its submit and its reader."""

    __slots__ = ()

    def resolve(self) -> tuple[bool, Any]:
        """(True, value) or (False, exception).  Only when `done`, and only once: the slot gives up what it holds."""
        task, data = self.task, self.data
        # Task and slot hold each other.  Large arguments and results must not wait for the garbage collector.
        self.data, task.sink = None, _READ
        if self.kind == CANCELLED:
            return False, describe_task(CancelledError("the pool was shut down"), task)
        return resolve(task, self.kind, data)


class _Read:
    """Where a task ends up that has ended and was read."""

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        raise AssertionError("a task ends once")


_READ = _Read()
