"""`map`: a function over any iterable, lazily, in bounded memory."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._native import _core
from ..errors import PoolClosed
from ..sync import Semaphore
from . import contexts
from .decision import Decision
from .feeder import EXHAUSTED, PATIENCE, RAISED, Feeder, MapOptions, Owner, length, publishable, source
from .inbox import Outcome, Slot
from .task import Task
from .waits import DAEMON, wait

if TYPE_CHECKING:
    from ..recording import Recorder
    from .stats import PoolStats


Result = tuple[Task, bool, Any]  # of whom, and how it has ended: (True, value) or (False, exception)
SLOW_SECONDS = 2e-5  # a source that takes longer for an item is slow


class _FeedThread(threading.Thread):
    """Pulls a slow source, so that the reader need not wait for it.  A daemon: a source can't be interrupted."""

    def __init__(self, iterator: weakref.ref[MapIterator], feeder: Feeder) -> None:
        super().__init__(name="treadle-map-source", daemon=DAEMON)
        self._iterator = iterator
        self._feeder = feeder
        self.room = Semaphore(0)  # released when something was read

    def run(self) -> None:
        iterator = self._iterator()
        if iterator is not None:
            iterator.feed_ahead(self._feeder, self.room)


class MapIterator(_core.Reader, Iterator[Any]):
    """The results of a map, as they are asked for.

    Nothing runs before the first `next`.  Iterate it from one thread at a time.  Leaving it early (`close`, a `with`
    block, or simply dropping it) cancels what has not been read.
    """

    def __init__(
        self,
        open_owner: Callable[[], tuple[Owner, Callable[[], None] | None, int]],
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        options: MapOptions,
    ) -> None:
        self._open_owner = open_owner
        self._fn = fn
        self._source = source(iterables)
        self._total = length(iterables) if options.progress else None
        self._options = options
        self._context = contexts.current()
        self._feeder: Feeder | None = None
        self._owner: Owner | None = None
        self._owned = False  # is the pool this map's own?
        self._leave: Callable[[], None] | None = None  # gives it back
        self._exhausted = False  # the source has no more
        self._trouble: BaseException | None = None  # raised by the source; raised again after what came before it
        self._closed = False
        self._arrived = Semaphore(0)
        self.until_feed = 0  # Invariant: 0 when it is closed.  Results to hand out before the next look at the window
        self._slow = 0  # how often in a row the source has made us wait for an item
        self._thread: _FeedThread | None = None
        self._bar: Any = None

    def read_on(self) -> Any:
        """The next result, however it has ended; what `next` calls when there is no plain value to hand out at once."""
        on_error = self._options.on_error
        while True:
            result = self._next()
            if result is None:
                raise StopIteration
            _, ok, value = result
            if ok or on_error == "return":
                return value
            if on_error == "raise":
                self.close()
                raise publishable(value)

    def outcomes(self) -> Iterator[Outcome]:
        """The same iteration, as `Outcome`s: for those who want to tell an error from an exception that was returned.

        `on_error` does not matter here.  Of a map that streams there is one for each value, with the index of the input
        that it is of.
        """
        while (result := self._next()) is not None:
            task, ok, value = result
            assert task.index is not None
            yield Outcome(task.index, task.item, ok, value if ok else None, None if ok else value)

    def _next(self) -> Result | None:
        """The next result; None, after all has been given back, at the end."""
        if self._closed:
            return None
        try:
            result = self._next_result()
            if result is not None:
                return result
        except BaseException:
            self.close()
            raise
        trouble, self._trouble = self._trouble, None
        self._finish()
        if trouble is not None:
            raise trouble
        return None

    def _next_result(self) -> Result | None:
        feeder = self._feeder or self._open()
        slot = self._next_slot(feeder)
        if slot is None:
            return None
        task = slot.task
        ok, value = slot.resolve()
        self._seen(ok)
        return task, ok, value

    def _seen(self, ok: bool) -> None:
        feeder = self._feeder
        assert feeder is not None
        feeder.count(ok)
        if self._bar is not None:
            chosen = self.decision
            self._bar.update(feeder.done, feeder.failed, str(chosen) if chosen else None)

    def _open(self) -> Feeder:
        self._owner, self._leave, workers = self._open_owner()
        self._owned = self._leave is not None
        self._feeder = Feeder(self._fn, self._options, self._owner, workers, self._context)
        if self._options.progress:
            from ..progress import Progress

            self._bar = Progress(self._total, getattr(self._fn, "__name__", "map"))
        else:
            self.read_from(self._feeder.inbox)
        if self._options.prefetch:
            self._thread = _FeedThread(weakref.ref(self), self._feeder)
            self._thread.start()
        return self._feeder

    def _next_slot(self, feeder: Feeder) -> Slot | None:
        inbox = feeder.inbox
        while True:
            # What is there comes first if the source is slow: it may take its time for the next item.
            if self._slow > 1 and inbox.has_next():
                self.until_feed = inbox.limit
            if self.until_feed > 0:
                self.until_feed -= 1
                slot: Slot | None = inbox.take()
                if slot is not None:
                    return slot
            if self._thread is None:
                self._feed(feeder)
            slot = inbox.take()
            if self._thread is not None:
                self._thread.room.release()  # after `take`, which counts what was read
            if slot is not None:
                return slot
            if self._exhausted and inbox.unread == 0:
                return None
            if inbox.unread or self._thread is not None:
                with feeder.owner.driver.waiting("map"):
                    if inbox.wake_reader(self._rouse):
                        wait(lambda seconds: self._arrived.acquire(timeout=seconds))

    def _rouse(self) -> None:
        """What the reader waits for is there."""
        owner = self._owner
        assert owner is not None
        owner.driver.reactor.call_last(self._arrived.release)

    def _feed(self, feeder: Feeder) -> None:
        """Submit as many items as the window has room for, in the reader's thread."""
        inbox = feeder.inbox
        wanted = 0 if self._exhausted else inbox.wants()
        # It costs something to ask; a large window need not be asked for each result.
        self.until_feed = inbox.limit // 16
        if not wanted:
            return
        try:
            patient_until = time.monotonic() + PATIENCE
            while wanted > 0 and not self._exhausted:
                # While workers have nothing to do, each item is worth a submit; so it is when the source is slow.
                count = self._pull(feeder, min(wanted, feeder.run) if inbox.starving else wanted, patient_until)
                wanted -= count
                now = time.monotonic()
                # (Many items may take that long together.)
                self._slow = self._slow + 1 if now > patient_until + count * SLOW_SECONDS else 0
                if self._slow or inbox.starving:
                    feeder.flush()
                    if self._slow and inbox.has_next():
                        break
                    patient_until = now + PATIENCE
        finally:
            feeder.flush()

    def _pull(self, feeder: Feeder, most: int = 1, until: float = 0.0) -> int:
        """Take items from the source, at least one if it has any; how many."""
        count, end, rest = feeder.feed(self._source, most, until)
        if end == EXHAUSTED:
            self._exhausted = True
        elif end == RAISED:
            self._trouble, self._exhausted = rest, True
        return count

    def feed_ahead(self, feeder: Feeder, room: Semaphore) -> None:
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
        self.until_feed = 0
        if self._thread is not None:
            self._thread.room.release()
        owner = self._owner
        if owner is None:
            return
        tasks = [] if self._feeder is None else self._feeder.close()
        if self._owned:
            owner.driver.terminate()
        else:
            owner.driver.drop(tasks)
        self._close_extras()

    def _finish(self) -> None:
        """All is read: give a pool of its own back."""
        if self._closed:
            return
        owner = self._owner if self._owned else None
        try:
            self._closed = True
            if self._leave is not None:
                self._leave()
        except BaseException:  # Ctrl-C: nobody else will ever end it
            if owner is not None:
                owner.driver.terminate()
            raise
        self._close_extras()

    def _close_extras(self) -> None:
        """The progress display and the trace, if it has them."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.close()
        recorder = self._recorder
        if recorder is not None:
            recorder.finish()

    @property
    def _recorder(self) -> Recorder | None:
        """Of a map with a trace of its own."""
        return getattr(self._owner, "recorder", None)

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
            recorder = self._recorder
            if recorder is not None:
                driver.reactor.call_soon(recorder.finish)
        else:
            tasks = self._feeder.close()
            driver.reactor.call_soon(lambda: driver.drop(tasks))
