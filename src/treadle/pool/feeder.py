"""From inputs to tasks: what the maps for threads and for asyncio have in common."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from .._native import _core
from ..errors import TaskNotPicklable, Unsupported
from .decision import Decision
from .inbox import Inbox, Slot
from .options import DEFAULT, TaskOptions
from .task import DONE, Call, Task
from .task import RAISED as TASK_RAISED

if TYPE_CHECKING:
    from .driver import Driver
    from .stats import PoolStats

OnError = Literal["raise", "return", "skip"]
RUN_SECONDS = 0.0005  # of work in one run, about; more gains nothing, and would be more to take back
RUN_OVERHEAD = 1e-7  # seconds that an item needs in a worker beside its call
RUN_ITEMS = 2048  # at most
RUN_LEAST = 4  # with fewer items it is not worth while
RUN_PARTS = 4  # runs that each worker may have in the window
PATIENCE = 0.001  # seconds a source may take for an item before what it gave so far is submitted

# Why `Feeder.feed` stops; see `_core.feed`.
FED, EXHAUSTED, SLOW, NEEDS_PICKLE, RAISED = 0, 1, 2, 3, 4


class MapOptions(NamedTuple):
    """How a map runs; see `treadle.map`."""

    ordered: bool = True
    on_error: OnError = "raise"
    buffer: int | None = None
    progress: bool = False
    prefetch: bool = False
    task: TaskOptions = DEFAULT


class Owner(Protocol):
    """The pool that a map runs on."""

    @property
    def driver(self) -> Driver: ...
    @property
    def decision(self) -> Decision | None: ...
    def stats(self) -> PoolStats: ...


class Feeder:
    """Turns inputs into tasks and submits them: what the iterators for threads and for asyncio have in common."""

    def __init__(
        self,
        fn: Callable[..., Any],
        options: MapOptions,
        owner: Owner,
        workers: int,
        context: Context | None,
    ) -> None:
        self.fn = fn
        self.options = options
        self.owner = owner
        self.inbox = Inbox(workers, options.buffer, options.ordered, owner.driver.reach)
        self._workers = workers
        self.run = 1  # how many items have travelled together of late, at most
        self._index = 0
        # Every call of the map has the context that there was when the map was asked for.
        self._memo: dict[str, Any] = {"context": context}
        self._batch: list[Task] = []
        self._bad: list[tuple[Slot, Task, BaseException]] = []
        self._slots: list[Slot] = []
        self._size = 0
        self._done = 0
        self.failed = 0

    def feed(self, source: Iterator[tuple[Any, ...]], most: int, until: float) -> tuple[int, int, Any]:
        """Make tasks of up to `most` inputs, to be submitted with the next `flush`; how many, and why no more.

        Of several only until that time, and only where all is as simple as can be.
        """
        engine, plain = self.owner.driver.engine, self.options.task is DEFAULT
        model = engine.model(self._memo) if plain else None
        if model is None:
            try:
                self.offer(next(source))
            except StopIteration:
                return 0, EXHAUSTED, None
            except Exception as error:
                return 0, RAISED, error
            return 1, FED, None
        function, context, variables, pack, runs = model
        run = self.run = self._run() if runs else 1
        tasks, slots, count, size, end, rest = _core.feed(
            self.inbox,
            Slot,
            source,
            self.fn,
            function,
            context,
            pack,
            self._index,
            most,
            int(until * 1e9),
            run,
            variables,
        )
        self._batch += tasks
        self._slots += slots
        self._size += size
        self._index += count
        if end != NEEDS_PICKLE:
            return count, end, rest
        self.offer(rest)
        return count + 1, FED, None

    def _run(self) -> int:
        """How many items may travel together: so many as take a moment, and a small part of the window."""
        inbox = self.inbox
        pace = inbox.pace or self.owner.driver.pace
        if not pace:
            return 1
        run = min(RUN_ITEMS, int(RUN_SECONDS / (pace + RUN_OVERHEAD)), inbox.limit // (RUN_PARTS * self._workers))
        return run if run >= RUN_LEAST else 1

    def offer(self, args: tuple[Any, ...]) -> None:
        """Make a task of one input, to be submitted with the next `flush`."""
        slot = Slot(self.inbox, self._index)
        trouble: BaseException | None = None
        try:
            call = self.owner.driver.engine.encode(self.fn, args, None, self._memo)
        except (TaskNotPicklable, Unsupported) as error:  # Unsupported: not in this engine's workers
            call, trouble = Call(self.fn, args, None), error
        task = slot.task = Task(call, slot, self._index, self.options.task)
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
        if not self.inbox.add(slots, size):
            return  # it was closed meanwhile, by another thread or a finalizer
        if batch and not self.owner.driver.submit(batch):
            raise self.owner.driver.refusal()
        for slot, task, error in bad:
            slot.deliver(task, TASK_RAISED, error)
            task.state = DONE

    @property
    def done(self) -> int:
        """How many values were read."""
        return self._done + self.inbox.returned

    def count(self, ok: bool) -> None:
        """One more was read, and this is how it went."""
        if ok:
            self._done += 1
        else:
            self.failed += 1

    def close(self) -> list[Task]:
        """Submit no more, whoever is in `flush`.  Returns the unread tasks, that were submitted or are about to be.

        To be dropped: the brain takes in none that it was told to drop before it came.
        """
        return self.inbox.close()


def source(iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
    """The inputs, as tuples of arguments.  Raises TypeError for what can't be iterated."""
    if len(iterables) == 1:
        return _core.Singles(iterables[0])
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
