"""`amap`: the same as `maps.py`, for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from . import contexts
from .decision import Decision
from .feeder import PATIENCE, Feeder, MapOptions, Owner, publishable
from .inbox import Outcome, Slot, outcome


class AsyncMapIterator(AsyncIterator[Any]):
    """The results of an `amap`, as they are awaited.  Nothing runs before the first one is.

    Iterate it from one asyncio task at a time.  `aclose`, or leaving an ``async with`` block, cancels what has not
    been read; so does the cancellation of the task that waits for it.
    """

    def __init__(
        self,
        owner: Owner,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        options: MapOptions,
        workers: int,
    ) -> None:
        self._owner = owner
        self._options = options
        self._sources = [_source(each) for each in iterables]
        self._feeder = Feeder(fn, options, owner, workers, contexts.current())
        self._exhausted = not self._sources
        self._trouble: BaseException | None = None
        self._closed = False

    @property
    def decision(self) -> Decision | None:
        """Which engine runs it, and why; None before the choice."""
        return self._owner.decision

    def __aiter__(self) -> AsyncMapIterator:
        return self

    async def __anext__(self) -> Any:
        on_error = self._options.on_error
        while True:
            slot = await self._next()
            if slot is None:
                raise StopAsyncIteration
            ok, value = slot.resolve()
            if ok or on_error == "return":
                return value
            if on_error == "raise":
                await self.aclose()
                raise publishable(value)

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """The same iteration, as `Outcome`s; `on_error` does not matter here."""
        while (slot := await self._next()) is not None:
            yield outcome(slot, *slot.resolve())

    async def _next(self) -> Slot | None:
        if self._closed:
            return None
        try:
            slot = await self._next_slot()
        except asyncio.CancelledError:
            self._close(running=True)
            raise
        except BaseException:
            await self.aclose()
            raise
        if slot is not None:
            return slot
        self._closed = True
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        return None

    async def _next_slot(self) -> Slot | None:
        loop = asyncio.get_running_loop()
        inbox = self._feeder.inbox
        while True:
            await self._feed()
            slot: Slot | None = inbox.take()
            if slot is not None:
                return slot
            if self._exhausted and inbox.unread == 0:
                return None
            arrived = loop.create_future()
            if inbox.unread and inbox.wake_reader(lambda arrived=arrived: _call(loop, arrived)):  # type: ignore[misc]
                await arrived

    async def _feed(self) -> None:
        feeder = self._feeder
        wanted = 0 if self._exhausted else feeder.inbox.wants()
        if not wanted:
            return
        try:
            patient_until = time.monotonic() + PATIENCE
            for _ in range(wanted):
                try:
                    args = tuple([await each.__anext__() for each in self._sources])
                except StopAsyncIteration:
                    self._exhausted = True
                    break
                except Exception as error:
                    self._exhausted, self._trouble = True, error
                    break
                feeder.offer(args)
                now = time.monotonic()
                if feeder.inbox.starving or now > patient_until:
                    feeder.flush()
                    if now > patient_until:
                        await asyncio.sleep(0)  # let the loop breathe; a yield, not a wait
                        if feeder.inbox.has_next():
                            break
                    patient_until = now + PATIENCE
        finally:
            feeder.flush()

    async def aclose(self) -> None:
        """Stop here and cancel what has not been read.  Idempotent.

        What worker processes run is ended only if the asyncio task that waits for a result is cancelled.
        """
        self._close(running=False)

    def _close(self, running: bool) -> None:
        if not self._closed:
            self._closed = True
            self._owner.driver.drop(self._feeder.unread(), running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _call(loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None]) -> None:
    """From a worker's or the reactor's thread: wake the reader, unless its loop is closed."""

    def wake() -> None:
        if not arrived.done():
            arrived.set_result(None)

    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        if not loop.is_closed():
            raise


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
