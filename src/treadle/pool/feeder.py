"""From inputs to tasks: what the maps for threads and for asyncio have in common."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ..errors import TaskNotPicklable
from .decision import Decision
from .inbox import Inbox, Slot
from .task import DONE, RAISED, Call, Task
from .window import Window

if TYPE_CHECKING:
    from .driver import Driver
    from .stats import PoolStats

OnError = Literal["raise", "return", "skip"]
PATIENCE = 0.001  # seconds a source may take for an item before what it gave so far is submitted


class MapOptions(NamedTuple):
    """How a map runs; see `treadle.map`."""

    ordered: bool = True
    timeout: float | None = None
    retries: int = 0
    on_error: OnError = "raise"
    buffer: int | None = None
    progress: bool = False
    prefetch: bool = False


class Owner(Protocol):
    """The pool that a map runs on."""

    @property
    def driver(self) -> Driver: ...
    @property
    def decision(self) -> Decision | None: ...
    def stats(self) -> PoolStats: ...


class Feeder:
    """Turns inputs into tasks and submits them: what the iterators for threads and for asyncio have in common."""

    def __init__(self, fn: Callable[..., Any], options: MapOptions, owner: Owner, workers: int) -> None:
        self.fn = fn
        self.options = options
        self.owner = owner
        self.inbox = Inbox(Window(workers, options.buffer), options.ordered)
        self._index = 0
        self._memo: dict[str, Any] = {}
        self._batch: list[Task] = []
        self._bad: list[tuple[Slot, Task, BaseException]] = []
        self._slots: list[Slot] = []
        self._size = 0
        self.done = 0
        self.failed = 0
        # Submitted and not read, for `drop`.  In a map that is read to its end it holds the window, no more.
        self._open: dict[int, Task] = {}

    def offer(self, args: tuple[Any, ...]) -> None:
        """Make a task of one input, to be submitted with the next `flush`."""
        slot = Slot(self.inbox, self._index)
        trouble: BaseException | None = None
        try:
            call = self.owner.driver.engine.encode(self.fn, args, None, self._memo)
        except TaskNotPicklable as error:
            call, trouble = Call(self.fn, args, None), error
        task = slot.task = Task(call, slot, self._index, self.options.timeout, self.options.retries)
        if trouble is None:
            self._batch.append(task)
            slot.size = len(call.payload or b"")
            self._size += slot.size
        else:
            self._bad.append((slot, task, trouble))
        self._slots.append(slot)
        self._index += 1

    def flush(self) -> None:
        """Submit what was offered.  Raises `PoolClosed`."""
        if not self._slots:
            return
        batch, bad, slots, size = self._batch, self._bad, self._slots, self._size
        self._batch, self._bad, self._slots, self._size = [], [], [], 0
        self.inbox.add(slots, size)
        for task in batch:
            assert task.index is not None
            self._open[task.index] = task
        if batch and not self.owner.driver.submit(batch):
            raise self.owner.driver.refusal()
        for slot, task, error in bad:
            self.inbox.deliver(slot, RAISED, error)
            task.state = DONE

    def read(self, slot: Slot) -> None:
        """The slot was taken from the inbox."""
        self._open.pop(slot.index, None)

    def count(self, ok: bool) -> None:
        """One more was read, and this is how it went."""
        if ok:
            self.done += 1
        else:
            self.failed += 1

    def unread(self) -> list[Task]:
        """The tasks that were submitted and not read."""
        return list(self._open.values())


def source(iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
    """The inputs, as tuples of arguments.  Raises TypeError for what can't be iterated."""
    return zip(*[iter(each) for each in iterables], strict=False)


def length(iterables: tuple[Any, ...]) -> int | None:
    """How many inputs there will be, if that can be known without iterating."""
    lengths = []
    for each in iterables:
        try:
            lengths.append(len(each))
        except TypeError:
            hint = operator.length_hint(each, -1)
            if hint < 0:
                continue
            lengths.append(hint)
    return min(lengths, default=None)


def publishable(error: BaseException) -> BaseException:
    """What may be raised out of `__next__`: a StopIteration of the user's would look like the end of the results."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        wrapped = RuntimeError(f"the task raised {type(error).__name__}")
        wrapped.__cause__ = error
        with contextlib.suppress(Exception):
            wrapped.task = error.task  # type: ignore[attr-defined,union-attr]
        return wrapped
    return error
