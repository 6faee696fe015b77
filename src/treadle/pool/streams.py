"""`map(..., stream=True)`: the function is a generator, and what it yields arrives as it goes, in bounded memory."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextvars import Context
from typing import Any

from ..errors import TaskNotPicklable
from ..sync import Lock, Semaphore
from .failures import describe_task
from .feeder import MapOptions, Owner
from .maps import MapIterator, Result
from .results import resolve
from .task import CANCELLED, RAISED, RETURNED, RETURNED_PACKED, Call, Task
from .waits import wait

AHEAD = 64  # values of one input that may wait for their reader
AHEAD_BYTES = 1 << 20  # and how many bytes


class Stream:
    """What one input yields, on its way to the reader: a task's sink."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.task: Task | None = None
        # Guarded by the hub's lock, all of them.
        self.items: deque[tuple[int, Any]] = deque()
        self.size = 0  # bytes in `items`
        self.end: tuple[int, Any] | None = None  # how the task has ended.  Invariant: set once; no item comes after it
        self.paused: Callable[[], None] | None = None  # not None: whoever makes the items waits for this to be called

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """Called by the pool (see `task.Sink`)."""
        self._hub.ended(self, kind, data)

    def hand(self, items: list[Any], resume: Callable[[], None]) -> bool:
        """Called by the pool: these have been yielded.  True: enough for now, `resume` will be called."""
        return self._hub.arrived(self, RETURNED_PACKED, items, sum(map(len, items)), resume)


class _InThread:
    """A generator function as a plain one, for a thread: it hands over by itself what it yields."""

    def __init__(self, fn: Callable[..., Iterable[Any]], hub: Hub, stream: Stream) -> None:
        self._fn = fn
        self._hub = hub
        self._stream = stream
        self.__qualname__ = getattr(fn, "__qualname__", None) or type(fn).__name__

    def __call__(self, *args: Any) -> None:
        room = Semaphore(0)
        generator = iter(self._fn(*args))
        stream = self._stream
        try:
            for item in generator:
                if stream.task is not None:
                    stream.task.more = True  # the brain reads it when this has failed: it is not tried again
                if self._hub.arrived(stream, RETURNED, [item], 0, room.release):
                    room.acquire()
                if self._hub.closed or stream.end is not None:
                    return
        finally:
            with contextlib.suppress(AttributeError):  # a plain iterator has none
                generator.close()  # type: ignore[attr-defined]


class Hub:
    """Where the streams of a map meet.  The pool holds it, but not the iterator: so that may be collected."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._lock = Lock()  # guards: streams, and what is in them.  Rank: the last; nothing is called under it.
        self.streams: deque[Stream] = deque()  # in order
        self._news = False  # is a `take` worth while, or a look for room?  Guarded by the lock, as the next one is
        self._wake: Callable[[], None] | None = None  # to be called when something comes; then it is None again
        self.closed = False

    def add(self, stream: Stream) -> bool:
        """It is about to be submitted.  False, and it must not be, if nobody reads any more."""
        with self._lock:
            if not self.closed:
                self.streams.append(stream)
            return not self.closed

    def take(self) -> tuple[Stream, int, Any] | None:
        """The next value, or the error that an input has ended with."""
        resume = None
        try:
            with self._lock:
                self._news = False
                for stream in list(self.streams):
                    if stream.items:
                        kind, data = stream.items.popleft()
                        stream.size -= len(data) if kind == RETURNED_PACKED else 0
                        if len(stream.items) <= AHEAD // 2 and stream.size <= AHEAD_BYTES // 2:
                            resume, stream.paused = stream.paused, None
                        if not self._ordered:  # the others in turn
                            self.streams.remove(stream)
                            self.streams.append(stream)
                        return stream, kind, data
                    if stream.end is not None:
                        self.streams.remove(stream)
                        self._news = True  # there is room for another input
                        kind, data = stream.end
                        if kind not in (RETURNED, RETURNED_PACKED):
                            return stream, kind, data
                    elif self._ordered:
                        return None
            return None
        finally:
            if resume is not None:
                resume()

    def arrived(self, stream: Stream, kind: int, items: list[Any], size: int, resume: Callable[[], None]) -> bool:
        """From any thread: these were yielded.  True: enough for now."""
        with self._lock:
            if self.closed or stream.end is not None:  # it was abandoned
                return False
            stream.items.extend((kind, item) for item in items)
            stream.size += size
            full = stream.paused is None and (len(stream.items) >= AHEAD or stream.size >= AHEAD_BYTES)
            if full:
                stream.paused = resume
            wake = self._announce()
        if wake is not None:
            wake()
        return full

    def wake_reader(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called, once, when something comes; False, and it won't be, if there is something to do now."""
        with self._lock:
            if self._news:
                return False
            self._wake = wake
            return True

    def _announce(self) -> Callable[[], None] | None:
        """Under the lock: something has come.  What is to be called then, without the lock."""
        self._news = True
        wake, self._wake = self._wake, None
        return wake

    def ended(self, stream: Stream, kind: int, data: Any) -> None:
        """From any thread: nothing more comes."""
        with self._lock:
            stream.end = kind, data
            resume, stream.paused = stream.paused, None
            wake = self._announce()
        if wake is not None:
            wake()
        if resume is not None:
            resume()

    def close(self) -> list[Task]:
        """Nobody reads any more: let all go on that wait for it.  Returns the tasks that have not ended."""
        with self._lock:
            self.closed = True
            streams = list(self.streams)
            self.streams.clear()
            waiting = [stream.paused for stream in streams if stream.paused is not None]
            for stream in streams:
                stream.paused = None
                stream.items.clear()
        for resume in waiting:
            resume()
        return [stream.task for stream in streams if stream.task is not None and stream.end is None]


class StreamFeeder:
    """Has inputs run as streams, and hands out what these yield: what the iterators here and for asyncio share."""

    def __init__(
        self, fn: Callable[..., Any], owner: Owner, most: int, options: MapOptions, context: Context | None
    ) -> None:
        self.hub = Hub(options.ordered)
        self._fn = fn
        self._driver = owner.driver
        self._most = most  # inputs that may be submitted and not read to their end
        self._options = options
        self._memo: dict[str, Any] = {"context": context}
        self._index = 0

    def wants(self) -> int:
        """How many more inputs: one for each worker; more would only wait."""
        return max(0, self._most - len(self.hub.streams))

    def offer(self, args: tuple[Any, ...]) -> None:
        """Submit a task for one input.  Raises `PoolClosed`."""
        driver, hub = self._driver, self.hub
        stream = Stream(hub)
        trouble: BaseException | None = None
        try:
            call = driver.engine.encode(self._fn, args, None, self._memo)
            if call.payload is None:
                call = Call(_InThread(self._fn, hub, stream), args, None, context=call.context)
        except TaskNotPicklable as error:
            call, trouble = Call(self._fn, args, None), error
        task = stream.task = Task(call, stream, self._index, self._options.task)
        self._index += 1
        if not hub.add(stream):
            return
        if trouble is not None:
            hub.ended(stream, RAISED, trouble)
        elif not driver.submit([task]):
            raise driver.refusal()

    def take(self) -> Result | None:
        """The next value, or the error that an input has ended with."""
        found = self.hub.take()
        if found is None:
            return None
        stream, kind, data = found
        assert stream.task is not None
        if kind == CANCELLED:
            return stream.task, False, describe_task(CancelledError("the pool was shut down"), stream.task)
        return stream.task, *resolve(stream.task, kind, data)


class StreamIterator(MapIterator):
    """The values that all inputs yield, as they are asked for; see `treadle.map`."""

    _streams: StreamFeeder | None = None

    def _next_result(self) -> Result | None:
        streams = self._streams
        if streams is None:
            self._owner, self._leave, most = self._open_owner()
            self._owned = self._leave is not None
            streams = self._streams = StreamFeeder(self._fn, self._owner, most, self._options, self._context)
        assert self._owner is not None
        hub = streams.hub
        while True:
            self._submit(streams)
            result = streams.take()
            if result is not None:
                return result
            if not hub.streams and self._exhausted:
                return None
            with self._owner.driver.waiting("map"):
                if hub.wake_reader(self._rouse):
                    wait(lambda seconds: self._arrived.acquire(timeout=seconds))

    def _submit(self, streams: StreamFeeder) -> None:
        while not self._exhausted and streams.wants():
            try:
                args = next(self._source)
            except StopIteration:
                self._exhausted = True
                return
            except Exception as error:
                self._exhausted, self._trouble = True, error
                return
            streams.offer(args)

    def close(self) -> None:
        """Stop here.  What still runs is ended: a process is killed, a generator in a thread is closed.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._owner is None or self._streams is None:
            return
        tasks = self._streams.hub.close()
        if self._owned:
            self._owner.driver.terminate()
        else:
            self._owner.driver.drop(tasks, True)
        self._close_extras()

    def __del__(self) -> None:
        # Possibly in the middle of anything, so without any lock: the reactor does it.
        if getattr(self, "_closed", True) or self._owner is None or self._streams is None:
            return
        driver, hub, owned = self._owner.driver, self._streams.hub, self._owned
        recorder = self._recorder

        def close() -> None:
            tasks = hub.close()
            if owned:
                driver.shutdown(cancel=True, kill=True)
            else:
                driver.drop(tasks, True)
            if recorder is not None:
                recorder.finish()

        driver.reactor.call_soon(close)
