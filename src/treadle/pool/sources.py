"""Where an `amap` takes its inputs from: iterables, plain and asynchronous ones, and what reads these ahead."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from .feeder import PATIENCE

Args = tuple[Any, ...]


class Sources:
    """The inputs of an `amap`, as tuples of arguments."""

    def __init__(self, iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...]) -> None:
        self.plain = not any(isinstance(each, AsyncIterable) for each in iterables)  # so none of them makes us wait
        self._each = [_source(each) for each in iterables]
        # Invariant: once True it stays so, and `trouble` is what one of them has raised then, if anything.
        self.exhausted = not iterables
        self.trouble: BaseException | None = None

    async def take(self) -> Args | None:
        """The next arguments; None if there are no more."""
        if self.exhausted:
            return None
        try:
            return tuple([await each.__anext__() for each in self._each])
        except StopAsyncIteration:
            self.exhausted = True
        except Exception as error:  # it comes after what was read so far
            self.exhausted, self.trouble = True, error
        return None


class Pump:
    """Reads sources that make one wait, in an asyncio task of its own: so results come out meanwhile.

    It does not hold the iterator: so that may be collected, which ends it.  Of the event loop's thread alone.
    """

    def __init__(
        self,
        sources: Sources,
        wants: Callable[[], int],
        offer: Callable[[Args], None],
        flush: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._sources = sources
        self._wants = wants  # how many more are wanted now
        self._offer = offer
        self._flush = flush  # submits what was offered
        self._wake = wake  # of the reader: there are no more
        self._room = asyncio.Event()  # set when something was read
        self._flushes = False  # is a flush due, as soon as the source makes us wait?
        self._closed: Exception | None = None  # why nothing more could be submitted
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="treadle-amap-source")

    def room(self) -> None:
        """Something was read.  Raises `PoolClosed` where no more could be submitted."""
        self._room.set()
        if self._closed is not None:
            raise self._closed

    def end(self) -> None:
        """Read no more.  From any thread."""
        if not self._task.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        sources = self._sources
        patient_until = time.monotonic() + PATIENCE
        try:
            while not sources.exhausted:
                if not self._wants():
                    self._submit()
                    self._room.clear()
                    await self._room.wait()
                    continue
                args = await sources.take()
                if args is None:
                    break
                try:
                    self._offer(args)
                except Exception as error:  # the same
                    self._closed = error
                    break
                if not self._flushes:
                    self._flushes = True
                    self._loop.call_soon(self._submit)  # it comes when the next `take` has to wait
                if time.monotonic() > patient_until:  # a source that never does
                    await asyncio.sleep(0)
                    patient_until = time.monotonic() + PATIENCE
        finally:
            sources.exhausted = True
            self._submit()
            self._wake()

    def _submit(self) -> None:
        self._flushes = False
        try:
            self._flush()
        except Exception as error:  # the pool is closed
            self._sources.exhausted, self._closed = True, error
            self._wake()


def start(
    iterator: Any, sources: Sources, wants: Callable[[], int], offer: Callable[[Args], None], flush: Callable[[], None]
) -> Pump:
    """A pump for that iterator, whose `wake_reader` it calls as long as there is somebody who holds it."""
    reader = weakref.ref(iterator)

    def wake() -> None:
        held = reader()
        if held is not None:
            held.wake_reader()

    return Pump(sources, wants, offer, flush, wake)


def _source(iterable: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(iterable, AsyncIterable):
        return aiter(iterable)
    return _Sync(iterable)


class _Sync(AsyncIterator[Any]):
    """A plain iterable as an asynchronous one."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterator = iter(iterable)

    async def __anext__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration
