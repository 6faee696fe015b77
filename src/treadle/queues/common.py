"""What every queue has, whatever it is made of: its end, iteration, and the methods for event loops."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from queue import Empty, Full
from typing import Any, Generic, Protocol, TypeVar, cast

from treadle._native import _core

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """Raised by put and get of a queue that was shut down."""

    ShutDown.__module__ = "treadle.queue"

__all__ = ["Empty", "Full", "Iterable", "ShutDown", "Watch"]

T = TypeVar("T")

# What the core raises.
_core.hook("empty", Empty)
_core.hook("full", Full)
_core.hook("shutdown", ShutDown)


class Watch(Protocol):
    """Tells that a queue has changed, from any thread."""

    def arm(self) -> None:
        """Tell about the next change."""

    def stop(self) -> None:
        """Tell no more."""


class Iterable(Generic[T]):
    """A queue that can be iterated over, and awaited."""

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """The queue's own."""
        raise NotImplementedError

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """The queue's own."""
        raise NotImplementedError

    def _watch(self, putters: bool, tell: Callable[[], None]) -> Watch:
        """Have `tell` called when there may be an item, or (`putters`) room for one."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        """Take items until the queue is shut down and empty."""
        while True:
            try:
                item = self.get()
            except ShutDown:
                return
            yield item

    async def __aiter__(self) -> AsyncIterator[T]:
        """Take items until the queue is shut down and empty, without blocking the event loop."""
        while True:
            try:
                item = await self.aget()
            except ShutDown:
                return
            yield item

    async def aget(self) -> T:
        """Take an item; wait for one without blocking the event loop.  ShutDown as for `get`.

        A cancelled `aget` has taken nothing.
        """
        return cast(T, await self._retry(lambda: self.get(False), Empty, False))

    async def aput(self, item: T) -> None:
        """Put an item; wait for room without blocking the event loop.  ShutDown as for `put`."""
        await self._retry(lambda: self.put(item, False), Full, True)

    async def _retry(self, attempt: Callable[[], Any], not_yet: type[Exception], putters: bool) -> Any:
        try:
            return attempt()
        except not_yet:
            pass
        import asyncio  # here, because few programs with queues have an event loop

        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell() -> None:  # in the thread that changed the queue, or that watches it
            with contextlib.suppress(RuntimeError):  # the loop was closed, and with it whoever waited
                loop.call_soon_threadsafe(changed.set)

        watch = self._watch(putters, tell)
        try:
            while True:
                changed.clear()
                try:
                    return attempt()
                except not_yet:
                    watch.arm()
                    await changed.wait()
        finally:
            watch.stop()
