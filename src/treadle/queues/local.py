"""Queues for the threads (and event loops) of one process.

Most operations are in C (`_core.LocalQueue`).  A queue whose class overrides `_init`, `_put`, `_get` or `_qsize`, or
whose insides somebody reaches for (`mutex`, `queue`, `not_empty`, ...), is *open*: it then works on Python objects
under a lock, as the standard library's does, with the same results, only slower.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, Full
from typing import Any, ClassVar, Generic, TypeVar

from treadle._native import _core
from treadle._native._core import Condition, LocalQueue, Lock
from treadle.queues import common
from treadle.queues.common import ShutDown, Watch

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]

T = TypeVar("T")
HOOKS = ("_init", "_put", "_get", "_qsize")

_opening = Lock(name="treadle.queues: opening")


class _Common(LocalQueue, common.Iterable[T]):
    """What all queues here can do."""

    def put_many(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Put all items, in order, as one `put` each would, only faster.

        If that fails (Full after `timeout` seconds for all together, ShutDown, an interrupt), the exception's
        attribute `rest` is the list of the items that were not put.  `items` is read to its end first.
        """
        rest = tuple(items)
        limit = None if timeout is None else time.monotonic() + _positive(timeout)
        at = 0
        try:
            while at < len(rest):
                done = self._put_batch(rest, at)
                if done <= 0:
                    left = None if limit is None else max(0.0, limit - time.monotonic())
                    self.put(rest[at], block, left)
                    done = 1
                at += done
        except BaseException as error:
            error.rest = list(rest[at:])  # type: ignore[attr-defined]
            raise

    def get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take the items that are there, at most `most`; wait for the first one as `get` would."""
        if most < 1:
            raise ValueError("most must be 1 or more")
        items: list[T] = self._get_batch(most)
        if not items:
            items = [self.get(block, timeout)]
            items += self._get_batch(most - 1)
        if self._is_open:
            try:
                while len(items) < most:
                    items.append(self.get(False))
            except (Empty, ShutDown):
                pass
        return items

    def _watch(self, putters: bool, tell: Callable[[], None]) -> Watch:
        return _Listener(self, tell)

    def __repr__(self) -> str:
        name = type(self).__qualname__
        name = f"treadle.{name}" if type(self).__module__ == "treadle.queue" else f"{type(self).__module__}.{name}"
        getters, putters = self._waiters
        waiters = f" waiters={getters + putters}" if getters + putters else ""
        size = f"{self.qsize()}/{self.maxsize}" if self.maxsize > 0 else f"{self.qsize()}"
        closed = " shut down" if self._closed() else ""
        return f"<{name} at {id(self):#x}: {size} items{waiters}{closed}>"

    def _closed(self) -> bool:
        return self._native_closed


class _Listener:
    """A `Watch`: the queue calls it with every change."""

    def __init__(self, queue: LocalQueue, tell: Callable[[], None]) -> None:
        self._queue = queue
        self._tell = tell
        queue._listen(tell)

    def arm(self) -> None:
        """It always is."""

    def stop(self) -> None:
        """Listen no more."""
        self._queue._unlisten(self._tell)


def _positive(timeout: float) -> float:
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class _Inside(Generic[T]):
    """An attribute that the standard library's queues have.  Who asks for it gets it, and the queue becomes open."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, queue: Queue[Any] | None, owner: type) -> Any:
        if queue is None:
            return self
        if self.name not in queue.__dict__:
            queue._open_up()
        try:
            return queue.__dict__[self.name]
        except KeyError:  # a subclass with its own _init has no attribute `queue`
            raise AttributeError(f"{type(queue).__name__!r} object has no attribute {self.name!r}") from None

    def __set__(self, queue: Queue[Any], value: Any) -> None:
        if not queue._is_open:
            queue._open_up()
        queue.__dict__[self.name] = value


class Queue(_Common[T]):
    """First in, first out.  `maxsize` items fit (0 or less: any number).

    As `queue.Queue`, on every Python with `shutdown`; and with `put_many`, `get_many`, `aget`, `aput` and iteration.
    Thread-safe; for one process.
    """

    # Invariant, open: queue.__dict__ has mutex, not_empty, not_full, all_tasks_done, unfinished_tasks, is_shutdown;
    # they are set before the core is told to use the Python methods, and what they guard is guarded by mutex.

    _lifo: ClassVar[bool] = False
    _hooked: ClassVar[bool] = False
    _plain: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if any(name in cls.__dict__ for name in HOOKS) and cls.__module__ != __name__:
            cls._hooked = True
            for name, method in (("put", cls._open_put), ("get", cls._open_get)):
                if isinstance(getattr(cls, name), type(LocalQueue.put)):  # spare the way through the core
                    setattr(cls, name, method)
        if "put" in cls.__dict__ or "get" in cls.__dict__:
            cls._plain = False

    def __init__(self, maxsize: int = 0) -> None:
        self._setup(int(maxsize), self._lifo, self._plain)
        if self._hooked:
            self._open_up()

    mutex = _Inside[Any]()
    not_empty = _Inside[Any]()
    not_full = _Inside[Any]()
    all_tasks_done = _Inside[Any]()
    queue = _Inside[Any]()

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put for which task_done() was not called."""
        return int(self.__dict__["unfinished_tasks"]) if self._is_open else self._native_unfinished

    @unfinished_tasks.setter
    def unfinished_tasks(self, value: int) -> None:
        self._open_up()
        self.__dict__["unfinished_tasks"] = value

    @property
    def is_shutdown(self) -> bool:
        """Whether shutdown() was called."""
        return self._closed()

    @is_shutdown.setter
    def is_shutdown(self, value: bool) -> None:
        self._open_up()
        self.__dict__["is_shutdown"] = value

    def _closed(self) -> bool:
        return bool(self.__dict__["is_shutdown"]) if self._is_open else self._native_closed

    # -- the hooks of an open queue: called with the mutex held

    def _init(self, maxsize: int) -> None:
        self.__dict__["queue"] = deque()

    def _qsize(self) -> int:
        return len(self.__dict__["queue"])

    def _put(self, item: T) -> None:
        self.__dict__["queue"].append(item)

    def _get(self) -> T:
        item: T = self.__dict__["queue"].popleft()
        return item

    # -- an open queue

    def _open_up(self) -> None:
        with _opening:
            if self._is_open:
                return
            state = self.__dict__
            mutex = state["mutex"] = Lock(name="Queue.mutex")
            state["not_empty"] = Condition(mutex)
            state["not_full"] = Condition(mutex)
            state["all_tasks_done"] = Condition(mutex)
            with mutex:  # whoever comes while the items move waits for it
                state["unfinished_tasks"] = 0
                state["is_shutdown"] = False
                moved = self._open()
                assert moved is not None
                items, state["unfinished_tasks"], closed = moved
                state["is_shutdown"] = bool(closed)
                self._init(self.maxsize)
                for item in items:
                    self._put(item)

    def _open_put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item; if the queue is full, wait for room, at most `timeout` seconds (None: forever).

        Full if there was none in time (or block is false), ShutDown if the queue was shut down.
        """
        state = self.__dict__
        if block and timeout is not None and self.maxsize > 0:
            _positive(timeout)
        with state["mutex"]:
            if 0 < self.maxsize <= self._qsize() and not state["is_shutdown"]:
                self._wait_open(state["not_full"], lambda: not 0 < self.maxsize <= self._qsize(), block, timeout, Full)
            if state["is_shutdown"]:
                raise ShutDown
            self._put(item)
            state["unfinished_tasks"] += 1
            state["not_empty"].notify()
        self._tell(1)

    def _open_get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take an item; if there is none, wait for one, at most `timeout` seconds (None: forever).

        Empty if none came in time (or block is false), ShutDown if the queue was shut down and is empty.
        """
        if block and timeout is not None:
            _positive(timeout)
        state = self.__dict__
        with state["mutex"]:
            if not self._qsize() and not state["is_shutdown"]:
                self._wait_open(state["not_empty"], lambda: self._qsize() > 0, block, timeout, Empty)
            if state["is_shutdown"] and not self._qsize():
                raise ShutDown
            item = self._get()
            state["not_full"].notify()
        self._tell(0)
        return item

    def _wait_open(
        self,
        condition: Condition,
        ready: Callable[[], bool],
        block: bool,
        timeout: float | None,
        error: type[Exception],
    ) -> None:
        if not block:
            raise error
        state = self.__dict__
        limit = None if timeout is None else time.monotonic() + timeout
        while not state["is_shutdown"] and not ready():
            # wait() and not wait_for(): programs that reach for a queue's conditions replace it, to hear of waits.
            if limit is None:
                condition.wait()
                continue
            left = limit - time.monotonic()
            if left <= 0:
                raise error
            condition.wait(left)

    def _open_task_done(self) -> None:
        state = self.__dict__
        with state["mutex"]:
            left = state["unfinished_tasks"] - 1
            if left < 0:
                raise ValueError("task_done() called too many times")
            if left == 0:
                state["all_tasks_done"].notify_all()
            state["unfinished_tasks"] = left

    def _open_join(self) -> None:
        state = self.__dict__
        with state["mutex"]:
            state["all_tasks_done"].wait_for(lambda: state["unfinished_tasks"] <= 0)

    def _open_qsize(self) -> int:
        with self.__dict__["mutex"]:
            return self._qsize()

    def _open_shutdown(self, immediate: bool) -> None:
        state = self.__dict__
        with state["mutex"]:
            state["is_shutdown"] = True
            if immediate:
                while self._qsize():
                    self._get()
                    state["unfinished_tasks"] = max(0, state["unfinished_tasks"] - 1)
                state["all_tasks_done"].notify_all()
            state["not_empty"].notify_all()
            state["not_full"].notify_all()
        self._tell(0)


class LifoQueue(Queue[T]):
    """Last in, first out; otherwise a `Queue`."""

    _lifo = True

    def _init(self, maxsize: int) -> None:
        self.__dict__["queue"] = []

    def _get(self) -> T:
        item: T = self.__dict__["queue"].pop()
        return item


class PriorityQueue(Queue[T]):
    """Smallest first; otherwise a `Queue`.  Items are compared with ``<``, typically tuples (priority, item)."""

    _hooked = True
    _plain = False
    put = Queue._open_put
    get = Queue._open_get

    def _init(self, maxsize: int) -> None:
        self.__dict__["queue"] = []

    def _put(self, item: T) -> None:
        heapq.heappush(self.__dict__["queue"], item)

    def _get(self) -> T:
        item: T = heapq.heappop(self.__dict__["queue"])
        return item


class SimpleQueue(_Common[T]):
    """First in, first out, any number of items, and nothing else; `put` never waits.

    `put` may be called from a signal handler or a destructor.  Thread-safe; for one process.
    """

    def __init__(self) -> None:
        self._setup(0, False, True)


for _class in (Queue, LifoQueue, PriorityQueue, SimpleQueue):
    _class.__module__ = "treadle.queue"
    if _class is not PriorityQueue:
        _core.queue_methods(_class)
