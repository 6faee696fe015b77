"""`wait`: for the first of several queues, events, threads, futures and processes."""

from __future__ import annotations

import os
import select
import threading as _threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from treadle._native._core import Event, LocalQueue, SharedQueue

__all__ = ["wait"]

Stop = Callable[[], None]


def wait(*things: Any, timeout: float | None = None) -> list[Any]:
    """Wait until at least one of `things` is ready, for at most `timeout` seconds (None: forever).

    Ready is: a queue with an item (or shut down), an event that is set, a thread or process that has ended, a future
    that is done, an object with `fileno()` (or a descriptor) that can be read.  Returns those that are ready, in the
    given order; an empty list if the time ran out.  Nothing is taken out of a queue: another thread may be faster.

    Queues are those of `treadle.queue` and `treadle.multiprocessing`, events those of `treadle.threading`, futures
    those of treadle and of `concurrent.futures`; threads and processes may be the standard library's.  TypeError for
    anything else, ValueError without anything to wait for, RuntimeError for a thread that was not started.
    Thread-safe.
    """
    if not things:
        raise ValueError("wait() needs something to wait for")
    deadline = None if timeout is None else time.monotonic() + max(0.0, timeout)
    sources = [_source(thing) for thing in things]
    changed = Event()
    stops: list[Stop] = []
    try:
        found = _ready(things, sources)
        if found or timeout == 0:
            return found
        for source in sources:  # one by one: those that are watched already must be let go if the next one fails
            stops += [source.watch(changed.set)]
        while True:
            changed.clear()
            found = _ready(things, sources)
            left = None if deadline is None else deadline - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            changed.wait(left)
    finally:
        for stop in stops:
            stop()


def _ready(things: tuple[Any, ...], sources: list[_Source]) -> list[Any]:
    return [thing for thing, source in zip(things, sources, strict=True) if source.ready()]


class _Source:
    """Something that becomes ready.

    Invariant: once `watch(tell)` has returned, `tell` is called after each change that may make it ready.
    """

    def ready(self) -> bool:
        raise NotImplementedError

    def watch(self, tell: Callable[[], None]) -> Stop:
        raise NotImplementedError


class _EventSource(_Source):
    def __init__(self, event: Event) -> None:
        self.event = event

    def ready(self) -> bool:
        return self.event.is_set()

    def watch(self, tell: Callable[[], None]) -> Stop:
        self.event._listen(tell)
        return lambda: self.event._unlisten(tell)


class _QueueSource(_Source):
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def ready(self) -> bool:
        return bool(self.queue._closed() or self.queue.qsize() > 0)

    def watch(self, tell: Callable[[], None]) -> Stop:
        self.queue._listen(tell)
        return lambda: self.queue._unlisten(tell)


class _SharedQueueSource(_Source):
    """A queue between processes: a thread awaits it, once for each look that found it not ready."""

    def __init__(self, queue: SharedQueue) -> None:
        self.queue = queue
        self.watcher: Any = None

    def ready(self) -> bool:
        ready = self.queue._closed or self.queue._shut or self.queue.qsize() > 0
        if not ready and self.watcher is not None:
            self.watcher.arm()
        return ready

    def watch(self, tell: Callable[[], None]) -> Stop:
        from treadle.queues.shared import Watcher  # here, because few programs wait for such a queue

        watcher = self.watcher = Watcher(self.queue, False, tell)
        watcher.arm()
        return watcher.stop


class _FutureSource(_Source):
    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def ready(self) -> bool:
        if not self.future.done():
            return False
        _ = self.future._condition  # who waits for it has looked at it (see `pool/unread.py`)
        return True

    def watch(self, tell: Callable[[], None]) -> Stop:
        # A future can't forget a callback, so the callback forgets whom it calls.
        target: list[Callable[[], None]] = [tell]

        def done(_: Future[Any]) -> None:
            for call in target[:]:
                call()

        self.future.add_done_callback(done)
        return target.clear


class _ThreadSource(_Source):
    """A thread that isn't treadle's own: another thread joins it, and tells."""

    def __init__(self, thread: _threading.Thread) -> None:
        self.thread = thread

    def ready(self) -> bool:
        return not self.thread.is_alive()

    def watch(self, tell: Callable[[], None]) -> Stop:
        target: list[Callable[[], None]] = [tell]

        def follow() -> None:
            self.thread.join()
            for call in target[:]:
                call()

        _threading.Thread(target=follow, name=f"treadle.wait: {self.thread.name}", daemon=True).start()
        return target.clear


class _DescriptorSource(_Source):
    """A descriptor.  A thread polls it, together with a pipe that ends the polling."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def ready(self) -> bool:
        return self._poll(0)

    def _poll(self, milliseconds: int | None, *more: int) -> bool:
        poll = select.poll()
        for descriptor in (self.descriptor, *more):
            poll.register(descriptor, select.POLLIN)
        return any(which == self.descriptor for which, _ in poll.poll(milliseconds))

    def watch(self, tell: Callable[[], None]) -> Stop:
        end_reading, end_writing = os.pipe()

        def follow() -> None:
            if self._poll(None, end_reading):
                tell()

        thread = _threading.Thread(target=follow, name=f"treadle.wait: descriptor {self.descriptor}", daemon=True)
        thread.start()

        def stop() -> None:
            os.close(end_writing)
            thread.join()
            os.close(end_reading)

        return stop


class _ProcessSource(_DescriptorSource):
    """A process: its sentinel.  The fork server closes its end of that a moment after it has told the exit code."""

    def __init__(self, process: Any) -> None:
        super().__init__(process.sentinel)
        self.process = process

    def ready(self) -> bool:
        joined = getattr(self.process, "_popen", None)  # only looked at: to ask it would be to reap the process
        return getattr(joined, "returncode", None) is not None or super().ready()


def _source(thing: Any) -> _Source:
    if isinstance(thing, Event):
        return _EventSource(thing)
    if isinstance(thing, LocalQueue):
        return _QueueSource(thing)
    if isinstance(thing, SharedQueue):
        return _SharedQueueSource(thing)
    if isinstance(thing, Future):
        return _FutureSource(thing)
    if isinstance(thing, _threading.Thread):
        if thing.ident is None:
            raise RuntimeError(f"wait() for a thread that was not started: {thing.name}")
        return _EventSource(own) if isinstance(own := getattr(thing, "_over", None), Event) else _ThreadSource(thing)
    if isinstance(thing, int):
        return _DescriptorSource(thing)
    if isinstance(getattr(thing, "sentinel", None), int):
        return _ProcessSource(thing)
    if callable(fileno := getattr(thing, "fileno", None)):
        return _DescriptorSource(fileno())
    kind = type(thing)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"wait() can't wait for {name} objects")
