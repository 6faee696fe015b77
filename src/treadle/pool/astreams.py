"""`amap(..., stream=True)`: the same as `streams.py`, for asyncio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import contexts, sources
from .amaps import AsyncMapIterator
from .maps import Result
from .streams import StreamFeeder
from .task import Task


class AsyncStreamIterator(AsyncMapIterator):
    """The values that all inputs yield, as they are awaited."""

    _ends_running = True  # a generator need not have an end

    def _begin(self, fn: Callable[..., Any], workers: int) -> None:
        self._streams = StreamFeeder(fn, self._owner, workers, self._options, contexts.current())

    async def _next_result(self) -> Result | None:
        streams, inputs = self._streams, self._sources
        while True:
            if inputs.plain:
                while streams.wants() and (args := await inputs.take()) is not None:
                    streams.offer(args)
            elif self._pump is None:
                self._pump = sources.start(self, inputs, streams.wants, streams.offer, lambda: None)
            result = streams.take()
            if self._pump is not None:
                self._pump.room()
            if result is not None:
                return result
            if inputs.exhausted and not streams.hub.streams:
                return None
            await self._wait(streams.hub.wake_reader)

    def _unread_later(self) -> Callable[[], list[Task]]:
        return self._streams.hub.close
