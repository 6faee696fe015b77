"""`map`: a function over any iterable, lazily, in bounded memory."""

from __future__ import annotations

import contextlib
import operator
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from ..errors import PoolClosed, TaskNotPicklable
from .decision import Decision
from .failures import describe_task
from .results import resolve
from .task import CANCELLED, DONE, RAISED, Call, Task
from .waits import wait
from .window import Window

if TYPE_CHECKING:
    from .driver import Driver
    from .stats import PoolStats

OnError = Literal["raise", "return", "skip"]
TAKEN_AT_ONCE = 64  # results that the reader takes out of the inbox at a time; they still count as unread
PATIENCE = 0.001  # seconds a source may take for an item before what it gave so far is submitted


@dataclass(slots=True)
class Outcome:
    """How one item ended: its `value` if `ok`, else its `error`."""

    index: int
    item: Any
    ok: bool
    value: Any
    error: BaseException | None


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
        self._lock = threading.Lock()  # guards all of these.  Rank: the last; nothing is called under it.
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
        """The next slot to read, or None.  Only the reader calls this, and the next three."""
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

    def wants(self) -> int:
        """How many more items to submit now."""
        with self._lock:
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


class _FeedThread(threading.Thread):
    """Pulls a slow source, so that the reader need not wait for it.  A daemon: a source can't be interrupted."""

    def __init__(self, iterator: weakref.ref[MapIterator], feeder: Feeder) -> None:
        super().__init__(name="treadle-map-source", daemon=True)
        self._iterator = iterator
        self._feeder = feeder
        self.room = threading.Semaphore(0)  # released when something was read

    def run(self) -> None:
        iterator = self._iterator()
        if iterator is not None:
            iterator.feed_ahead(self._feeder, self.room)


class MapIterator(Iterator[Any]):
    """The results of a map, as they are asked for.

    Nothing runs before the first `next`.  Iterate it from one thread at a time.  Leaving it early (`close`, a `with`
    block, or simply dropping it) cancels what has not been read.
    """

    def __init__(
        self,
        open_owner: Callable[[], tuple[Owner, bool, int]],
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        options: MapOptions,
    ) -> None:
        self._open_owner = open_owner
        self._fn = fn
        self._source = source(iterables)
        self._total = length(iterables) if options.progress else None
        self._options = options
        self._feeder: Feeder | None = None
        self._owner: Owner | None = None
        self._owned = False  # is the pool this map's own?
        self._exhausted = False  # the source has no more
        self._trouble: BaseException | None = None  # raised by the source; raised again after what came before it
        self._closed = False
        self._arrived = threading.Semaphore(0)
        self._until_feed = 0  # results to hand out before the next look at the window
        self._slow = False  # did the source make us wait for the last item?
        self._thread: _FeedThread | None = None
        self._bar: Any = None

    def __iter__(self) -> MapIterator:
        return self

    def __next__(self) -> Any:
        on_error = self._options.on_error
        while True:
            slot = self._next()
            if slot is None:
                raise StopIteration
            ok, value = slot.resolve()
            self._seen(ok)
            if ok or on_error == "return":
                return value
            if on_error == "raise":
                self.close()
                raise publishable(value)

    def outcomes(self) -> Iterator[Outcome]:
        """The same iteration, as `Outcome`s: for those who want to tell an error from an exception that was returned.

        `on_error` does not matter here.
        """
        while (slot := self._next()) is not None:
            ok, value = slot.resolve()
            self._seen(ok)
            yield outcome(slot, ok, value)

    def _next(self) -> Slot | None:
        if self._closed:
            return None
        try:
            feeder = self._feeder or self._open()
            slot = self._next_slot(feeder)
            if slot is not None:
                feeder.read(slot)
                return slot
        except BaseException:
            self.close()
            raise
        trouble, self._trouble = self._trouble, None
        self._finish()
        if trouble is not None:
            raise trouble
        return None

    def _seen(self, ok: bool) -> None:
        feeder = self._feeder
        assert feeder is not None
        feeder.count(ok)
        if self._bar is not None:
            chosen = self.decision
            self._bar.update(feeder.done, feeder.failed, str(chosen) if chosen else None)

    def _open(self) -> Feeder:
        self._owner, self._owned, workers = self._open_owner()
        self._feeder = Feeder(self._fn, self._options, self._owner, workers)
        if self._options.progress:
            from ..progress import Progress

            self._bar = Progress(self._total, getattr(self._fn, "__name__", "map"))
        if self._options.prefetch:
            self._thread = _FeedThread(weakref.ref(self), self._feeder)
            self._thread.start()
        return self._feeder

    def _next_slot(self, feeder: Feeder) -> Slot | None:
        inbox = feeder.inbox
        while True:
            # What is there comes first if the source is slow: it may take its time for the next item.
            if self._until_feed > 0 or (self._slow and inbox.has_next()):
                self._until_feed -= 1
                slot = inbox.take()
                if slot is not None:
                    return slot
            if self._thread is None:
                self._feed(feeder)
            else:
                self._thread.room.release()
            slot = inbox.take()
            if slot is not None:
                return slot
            if self._exhausted and inbox.unread == 0:
                return None
            if inbox.unread or self._thread is not None:
                with feeder.owner.driver.waiting("map"):
                    if inbox.wake_reader(self._arrived.release):
                        wait(lambda seconds: self._arrived.acquire(timeout=seconds))

    def _feed(self, feeder: Feeder) -> None:
        """Submit as many items as the window has room for, in the reader's thread."""
        inbox = feeder.inbox
        wanted = 0 if self._exhausted else inbox.wants()
        # It costs something to ask; a large window need not be asked for each result.
        self._until_feed = inbox.window.limit // 32
        if not wanted:
            return
        try:
            patient_until = time.monotonic() + PATIENCE
            for _ in range(wanted):
                if not self._pull(feeder):
                    break
                now = time.monotonic()
                # While workers have nothing to do, each item is worth a submit; so it is when the source is slow.
                self._slow = now > patient_until
                if self._slow or inbox.starving:
                    feeder.flush()
                    if self._slow and inbox.has_next():
                        break
                    patient_until = now + PATIENCE
        finally:
            feeder.flush()

    def _pull(self, feeder: Feeder) -> bool:
        """Take one item from the source; False if there is none."""
        try:
            args = next(self._source)
        except StopIteration:
            self._exhausted = True
            return False
        except Exception as error:
            self._trouble, self._exhausted = error, True
            return False
        feeder.offer(args)
        return True

    def feed_ahead(self, feeder: Feeder, room: threading.Semaphore) -> None:
        """The same in a thread of its own (`prefetch`): each item is submitted as soon as the source gives it."""
        inbox = feeder.inbox
        while not self._closed and not self._exhausted:
            if inbox.wants():
                self._pull(feeder)
                try:
                    feeder.flush()
                except PoolClosed:
                    return
            else:
                room.acquire()
        self._arrived.release()  # perhaps the reader waits for an item that will not come

    # -- around it

    @property
    def decision(self) -> Decision | None:
        """Which engine runs it, and why; None before the choice."""
        return None if self._owner is None else self._owner.decision

    def stats(self) -> PoolStats | None:
        """What the pool under it is doing; None before the first `next`."""
        return None if self._owner is None else self._owner.stats()

    def close(self) -> None:
        """Stop here: cancel what has not been read.  A pool of its own is ended by force.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._thread.room.release()
        owner, feeder = self._owner, self._feeder
        if owner is None:
            return
        if self._owned:
            owner.driver.terminate()
        elif feeder is not None:
            owner.driver.drop(feeder.unread())
        self._close_bar()

    def _finish(self) -> None:
        """All is read: let a pool of its own leave in peace."""
        if self._closed:
            return
        owner = self._owner if self._owned else None
        try:
            self._closed = True
            if owner is not None:
                owner.driver.shutdown()
                owner.driver.wait_closed()
        except BaseException:  # Ctrl-C: nobody else will ever end it
            if owner is not None:
                owner.driver.terminate()
            raise
        self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Possibly in the middle of anything, so without any lock: the reactor does it.
        if getattr(self, "_closed", True) or self._owner is None or self._feeder is None:
            return
        driver = self._owner.driver
        if self._owned:
            driver.abandon()
        else:
            tasks = self._feeder.unread()
            driver.reactor.call_soon(lambda: driver.drop(tasks))
