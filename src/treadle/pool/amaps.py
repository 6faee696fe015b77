"""`amap`: the same as `maps.py`, for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from . import contexts, sources
from .decision import Decision
from .feeder import PATIENCE, Feeder, MapOptions, Owner, publishable
from .inbox import Outcome, Slot
from .maps import Result
from .sources import Sources
from .task import Task


class AsyncMapIterator(AsyncIterator[Any]):
    """The results of an `amap`, as they are awaited.  Nothing runs before the first one is.

    Iterate it from one asyncio task at a time.  `aclose`, or leaving an ``async with`` block, cancels what has not
    been read; so does the cancellation of the task that waits for it, and dropping the iterator.  Asynchronous inputs
    are read in an asyncio task of its own, so results come out while the next input is waited for.
    """

    _ends_running = False  # does leaving it end what worker processes run already?

    def __init__(
        self,
        owner: Owner,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        options: MapOptions,
        workers: int,
    ) -> None:
        self._closed = True  # until all is there that `_close` needs
        self._owner = owner
        self._options = options
        self._sources = Sources(iterables)
        self._pump: sources.Pump | None = None
        self._arrived: asyncio.Future[None] | None = None  # what the reader waits for
        self._begin(fn, workers)
        self._closed = False

    def _begin(self, fn: Callable[..., Any], workers: int) -> None:
        self._feeder = Feeder(fn, self._options, self._owner, workers, contexts.current())

    @property
    def decision(self) -> Decision | None:
        """Which engine runs it, and why; None before the choice."""
        return self._owner.decision

    def __aiter__(self) -> AsyncMapIterator:
        return self

    async def __anext__(self) -> Any:
        on_error = self._options.on_error
        while True:
            result = await self._next()
            if result is None:
                raise StopAsyncIteration
            _, ok, value = result
            if ok or on_error == "return":
                return value
            if on_error == "raise":
                await self.aclose()
                raise publishable(value)

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """The same iteration, as `Outcome`s; `on_error` does not matter here."""
        while (result := await self._next()) is not None:
            task, ok, value = result
            assert task.index is not None
            yield Outcome(task.index, task.item, ok, value if ok else None, None if ok else value)

    async def _next(self) -> Result | None:
        if self._closed:
            return None
        try:
            result = await self._next_result()
        except asyncio.CancelledError:
            self._close(running=True)
            raise
        except BaseException:
            await self.aclose()
            raise
        if result is not None:
            return result
        self._closed = True
        trouble, self._sources.trouble = self._sources.trouble, None
        if trouble is not None:
            raise trouble
        return None

    async def _next_result(self) -> Result | None:
        inbox = self._feeder.inbox
        while True:
            if self._sources.plain:
                await self._feed()
            elif self._pump is None:
                feeder = self._feeder
                self._pump = sources.start(self, self._sources, inbox.wants, feeder.offer, feeder.flush)
            slot: Slot | None = inbox.take()
            if self._pump is not None:
                self._pump.room()
            if slot is not None:
                return slot.task, *slot.resolve()
            if self._sources.exhausted and inbox.unread == 0:
                return None
            await self._wait(inbox.wake_reader)

    async def _wait(self, wake_reader: Callable[[Callable[[], None]], bool]) -> None:
        """Until something has come, or there will be no more inputs."""
        loop = asyncio.get_running_loop()
        arrived = self._arrived = loop.create_future()
        if wake_reader(lambda: _call(loop, arrived)):
            await arrived

    def wake_reader(self) -> None:
        """There are no more inputs.  In the event loop's thread."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def _feed(self) -> None:
        feeder, inputs = self._feeder, self._sources
        wanted = 0 if inputs.exhausted else feeder.inbox.wants()
        if not wanted:
            return
        try:
            patient_until = time.monotonic() + PATIENCE
            for _ in range(wanted):
                args = await inputs.take()
                if args is None:
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
            if self._pump is not None:
                self._pump.end()
            self._owner.driver.drop(self._unread(), running or self._ends_running)

    def _unread(self) -> list[Task]:
        return self._unread_later()()

    def _unread_later(self) -> Callable[[], list[Task]]:
        """What gives the tasks that were submitted and not read, without the iterator."""
        return self._feeder.close

    def __del__(self) -> None:
        # Possibly in the middle of anything, so without any lock: the reactor does it.
        if getattr(self, "_closed", True):
            return
        self._closed = True
        if self._pump is not None:
            self._pump.end()
        driver, unread, running = self._owner.driver, self._unread_later(), self._ends_running
        driver.reactor.call_soon(lambda: driver.drop(unread(), running))

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
