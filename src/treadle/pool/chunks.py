"""Many items in one task, for those who want all results and not each as it comes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import failures
from .results import resolve
from .task import RAISED, RAISED_PACKED, Call, Sink, Task

GROUP_ITEMS = 256  # at most so many calls between two looks at the clock
GROUP_SECONDS = 0.0005  # a group that is shorter may be followed by a longer one


class Part(NamedTuple):
    """What a chunk came to."""

    nanoseconds: int
    results: list[Any]  # of as many items as were tried; None for those that failed
    failed: list[tuple[int, Any]]  # places in the chunk, each with its exception (packed, if from another process)


class Many:
    """Calls a function with each item of a chunk.  One that raises does not keep the others from being tried.

    It stops between two items when `seconds` have passed: the rest of the chunk is for other workers.
    """

    def __init__(
        self, fn: Callable[..., Any], star: bool, pack: bool, seconds: float | None, whole: bool = False
    ) -> None:
        self.fn = fn
        self.whole = whole  # the chunk is one argument, a range: so short it travels
        self.star = star
        self.pack = pack
        self.seconds = seconds
        self.__qualname__ = getattr(fn, "__qualname__", None) or type(fn).__name__  # for error messages

    def __call__(self, *items: Any) -> Part:
        if self.whole:
            (items,) = items
        clock = time.monotonic
        results: list[Any] = []
        failed: list[tuple[int, Any]] = []
        count, group = len(items), 1
        start = before = clock()
        over = None if self.seconds is None else start + self.seconds
        while (at := len(results)) < count:
            # Towards the end groups become short: long calls there are to be handed back one by one.
            these = items[at : at + min(group, max(1, (count - at) // 4))]
            calls = itertools.starmap(self.fn, these) if self.star else map(self.fn, these)
            try:
                results.extend(calls)  # what came before an exception stays in the list
                if len(results) < at + len(these):
                    raise RuntimeError("the call raised StopIteration")
            except Exception as error:
                failed.append((len(results), failures.pack(error, skip=1) if self.pack else error))
                results.append(None)
            now = clock()
            if over is not None and now > over:
                break
            # Short calls are made in groups, so that the clock costs nothing.  A group that took long is the last one.
            group = min(GROUP_ITEMS, group * 2) if now - before < GROUP_SECONDS else 1
            before = now
        return Part(int((clock() - start) * 1e9), results, failed)


def item_error(many: Many, sink: Sink, item: Any, index: int, failure: Any) -> BaseException:
    """The exception of one item of a chunk, with its own `TaskFailure`."""
    task = Task(Call(many.fn, item if many.star and type(item) is tuple else (item,), None), sink, index)
    error: BaseException = resolve(task, RAISED_PACKED if many.pack else RAISED, failure)[1]
    return error


def payload_size(data: Any) -> int:
    """Bytes of something pickled; 0 for anything else."""
    return len(data) if isinstance(data, (bytes, bytearray, memoryview)) else 0
