"""Where the results of a map arrive, and where its reader waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from ..sync import Lock
from .failures import describe_task
from .results import resolve
from .task import CANCELLED, Task
from .window import Window

TAKEN_AT_ONCE = 64  # results that the reader takes out of the inbox at a time; they still count as unread


@dataclass(slots=True)
class Outcome:
    """How one item ended: its `value` if `ok`, else its `error`."""

    index: int
    item: Any
    ok: bool
    value: Any
    error: BaseException | None


class Slot:
    """One item between its submit and its reader."""

    __slots__ = ("inbox", "index", "task", "kind", "data", "done", "size")

    def __init__(self, inbox: Inbox, index: int) -> None:
        self.inbox = inbox
        self.index = index
        self.task: Task | None = None
        self.kind = CANCELLED
        self.data: Any = None
        self.done = False  # Invariant: set once, by `deliver`, under the inbox's lock
        self.size = 0  # bytes of input and result that the window counts for it

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """Called by the pool (see `task.Sink`)."""
        self.inbox.deliver(self, kind, data)

    def resolve(self) -> tuple[bool, Any]:
        """(True, value) or (False, exception).  Only when `done`, and only once: the slot gives up what it holds."""
        task, data = self.task, self.data
        assert task is not None
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


def outcome(slot: Slot, ok: bool, value: Any) -> Outcome:
    """For those who want to know it all."""
    assert slot.task is not None
    return Outcome(slot.index, slot.task.item, ok, value if ok else None, None if ok else value)


class Inbox:
    """Where a map's results arrive, and where its reader waits.

    The pool holds the inbox, but not the iterator: so an iterator that nobody holds any more can be collected.
    """

    def __init__(self, window: Window, ordered: bool) -> None:
        self._lock = Lock()  # guards all of these.  Rank: the last; nothing is called under it.
        self.window = window
        self._ordered = ordered
        self._line: deque[Slot] = deque()  # ordered: all that are unread, in order; else: those that are done
        self._wake: Callable[[], None] | None = None  # Invariant: not None only while a reader waits, or is about to
        # Taken out of the line, and not counted as read yet: the reader's own, no lock needed.
        self._ready: deque[Slot] = deque()
        self._read, self._read_size = 0, 0

    def add(self, slots: list[Slot], size: int) -> None:
        """These are about to be submitted."""
        with self._lock:
            if self._ordered:
                self._line.extend(slots)
            self.window.submitted(len(slots), size)

    def deliver(self, slot: Slot, kind: int, data: Any) -> None:
        """From any thread: this one has ended."""
        size = len(data) if isinstance(data, (bytes, bytearray)) else 0
        with self._lock:
            slot.kind = kind
            slot.data = data
            slot.size += size
            slot.done = True
            self.window.finished(size)
            if not self._ordered:
                self._line.append(slot)
            wake = None
            if self._wake is not None and self._line[0].done:
                wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def take(self) -> Slot | None:
        """The next slot to read, or None.  Only the reader calls this, and the next two."""
        ready = self._ready
        if not ready:
            with self._lock:
                self._account()
                line = self._line
                while line and line[0].done and len(ready) < TAKEN_AT_ONCE:
                    ready.append(line.popleft())
                if not ready:
                    self.window.hungry = True
                    return None
        slot = ready.popleft()
        self._read += 1
        self._read_size += slot.size
        return slot

    def wake_reader(self, wake: Callable[[], None] | None) -> bool:
        """Have `wake` called when there is something to take; False, and it won't be, if there is already."""
        with self._lock:
            if self._line and self._line[0].done:
                return False
            self._wake = wake
            return True

    def has_next(self) -> bool:
        """Can one be read without waiting?"""
        if self._ready:
            return True
        with self._lock:
            return bool(self._line) and self._line[0].done

    def wants(self, reader: bool = True) -> int:
        """How many more items to submit now.  `reader`: is it the reader that asks?  Only it knows what it has read."""
        with self._lock:
            if reader:
                self._account()
            return self.window.wants()

    def _account(self) -> None:
        """Count what was read since the last time."""
        self.window.read(self._read, self._read_size)
        self._read = self._read_size = 0

    @property
    def starving(self) -> bool:
        """Are there workers that could run one more item at once?"""
        return self.window.unfinished < self.window.workers

    @property
    def unread(self) -> int:
        """How many are submitted and not read."""
        return self.window.unread - self._read
