"""A function over a list, as a whole: it runs without being asked for results, and ends with all of them at once.

The items go in chunks of a few milliseconds, whose size follows what the last ones took.  A few chunks are under way
at a time, and the end of each brings the next one along, so a million items are never a million tasks, and nobody has
to say a chunk size.  An item that takes longer than a chunk should travels alone, so that it alone is to blame if its
worker dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from ..errors import TaskNotPicklable
from ..sync import Lock
from . import contexts
from .chunks import Many, Part, item_error, payload_size
from .failures import describe_task
from .results import resolve
from .task import CANCELLED, Call, Task
from .waits import in_main_thread

if TYPE_CHECKING:
    from .driver import Driver

CHUNK_SECONDS = 0.005
CHUNK_BYTES = 1 << 20  # of arguments, and of results
CHUNK_GROWTH = 4  # one chunk is at most so many times as long as what came before
LEAST_SECONDS = 0.0005  # for less than that a chunk is not worth its journey
STOP_SECONDS = 0.05  # a chunk that takes longer hands its rest back
IN_STOCK = 2  # chunks a worker: one that it runs, one that waits behind it

Done = Callable[[bool, Any], None]


class Bulk:
    """One call of a map.  `done(True, results)` or `done(False, error)` is called at its end, once, by some thread.

    All items are tried, whatever becomes of the others; the error is that of the one that failed first.
    """

    def __init__(self, driver: Driver, fn: Callable[..., Any], items: Sequence[Any], star: bool, done: Done) -> None:
        self._driver = driver
        whole = type(items) is range
        self._many = Many(fn, star, driver.engine.name != "threads", STOP_SECONDS, whole)
        self._items = items
        self._done = done
        self._memo: dict[str, Any] = {"context": contexts.current()}  # only for one thread at a time: `_feeding`
        self._lock = Lock()  # guards the rest.  Rank: a leaf; nothing is called under it.
        self._values: list[Any] = [None] * len(items)
        self._failure: BaseException | None = None
        self._next = 0  # Invariant: each item before it is under way, or has ended, or is in _again
        self._again: deque[tuple[int, int]] = deque()  # from, to: handed back
        self._size = 1  # items of the next chunk
        self._least = 1  # items of the last chunks, which are shorter
        self._rest = 0  # items in _again
        self._under_way = 0  # chunks
        self._feeding = False  # a thread is in `_feed`; it looks again before it leaves
        self._ended = False

    def start(self) -> None:
        """Begin.  In the main thread this is one atomic step (see driver.py)."""
        self._driver.reactor.start()
        if in_main_thread():
            self._driver.reactor.call_soon(self._feed)
        else:
            self._feed()

    def _feed(self) -> None:
        """Have enough chunks under way.  One thread at a time; others leave it to that one."""
        with self._lock:
            if self._feeding:
                return
            self._feeding = True
        while True:
            with self._lock:
                span = self._take()
                if span is None:
                    self._feeding = False
                    break
            self._submit(*span)
        self._maybe_end()

    def _take(self) -> tuple[int, int] | None:
        """The next chunk, if there is to be one now.  Under the lock."""
        crew = self._driver.limit * IN_STOCK
        if self._under_way >= crew:
            return None
        again = bool(self._again)
        start, stop = self._again.popleft() if again else (self._next, len(self._items))
        if start == stop:
            return None
        # Towards the end chunks become short, so that no worker has to wait for another one's last chunk.
        rest = len(self._items) - self._next + self._rest
        middle = min(stop, start + max(self._least, min(self._size, -(-rest // crew))))
        if again:
            self._rest -= middle - start
            if middle < stop:
                self._again.appendleft((middle, stop))
        else:
            self._next = middle
        self._under_way += 1
        return start, middle

    def _submit(self, start: int, stop: int) -> None:
        driver = self._driver
        chunk: tuple[Any, ...] = (self._items[start:stop],) if self._many.whole else tuple(self._items[start:stop])
        try:
            call = driver.engine.encode(self._many, chunk, None, self._memo)
            size = payload_size(call.payload)
            if size > CHUNK_BYTES:
                self._shrink(stop - start, size)
            if not driver.submit([Task(call, self, start)]):
                self._fail(driver.refusal(), give_up=True)
        except TaskNotPicklable as error:
            function = "function" in self._memo
            if stop - start > 1 and function:  # not the function: find the item, for the others are to be tried
                with self._lock:
                    middle = (start + stop) // 2
                    self._again.extend(((start, middle), (middle, stop)))
                    self._rest += stop - start
                    self._size, self._least = max(1, self._size // 2), 1
                    self._under_way -= 1
                return
            self._fail(describe_task(error, Task(Call(self._many, chunk, None), self, start)), give_up=not function)
        except Exception as error:  # no memory, no thread
            self._fail(error, give_up=True)

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """A chunk has ended (see `task.Sink`)."""
        if kind == CANCELLED:
            self._fail(CancelledError("the pool was terminated"), give_up=True)
            self._maybe_end()
            return
        ok, part = resolve(task, kind, data)
        if not ok:
            self._fail(part)
            self._feed()
            return
        chunk = task.call.args[0] if self._many.whole else task.call.args
        start = task.index
        assert start is not None and isinstance(part, Part)
        self._learn(part, payload_size(data))
        if part.failed and self._failure is None:
            place, failure = part.failed[0]
            error = item_error(self._many, self, chunk[place], start + place, failure)
        else:
            error = None
        count = len(part.results)
        with self._lock:
            self._values[start : start + count] = part.results
            if count < len(chunk):
                self._again.append((start + count, start + len(chunk)))
                self._rest += len(chunk) - count
            if error is not None and self._failure is None:
                self._failure = error
            self._under_way -= 1
        self._feed()

    def _learn(self, part: Part, size: int) -> None:
        count = len(part.results)
        each = max(part.nanoseconds / 1e9 / count, 1e-8)
        with self._lock:
            self._size = max(1, min(int(CHUNK_SECONDS / each), CHUNK_GROWTH * max(count, self._size)))
            self._least = max(1, min(int(LEAST_SECONDS / each), self._size))
        if size > CHUNK_BYTES:
            self._shrink(count, size)

    def _shrink(self, count: int, size: int) -> None:
        """So many items were so many bytes, and that was too much."""
        with self._lock:
            self._size = max(1, min(self._size, count * CHUNK_BYTES // size))
            self._least = min(self._least, self._size)

    def _fail(self, error: BaseException, give_up: bool = False) -> None:
        """One chunk has failed; `give_up`: and so will all others."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            if give_up:
                self._next = len(self._items)
                self._again.clear()
                self._rest = 0
            self._under_way -= 1

    def _maybe_end(self) -> None:
        with self._lock:
            if self._ended or self._under_way or self._again or self._next < len(self._items):
                return
            self._ended = True
            values, failure = self._values, self._failure
            self._values, self._items, self._failure = [], (), None
        if failure is None:
            self._done(True, values)
        else:
            self._done(False, failure)
