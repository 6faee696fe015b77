"""Queues between processes, on a ring in shared memory.

An object is pickled when it is put, and visible to every process at once; there is no feeder thread, so nothing is lost
when the process that put it ends, however it ends.  A queue's memory grows and shrinks with what is in it, and is freed
with the last process that has it.
"""

from __future__ import annotations

import io
import pickle
import threading as _threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.reduction import ForkingPickler
from queue import Empty, Full
from typing import Any, Generic, NamedTuple, TypeVar

from treadle import handles
from treadle._native import _core
from treadle._native._core import SharedQueue
from treadle.queues import common
from treadle.queues.common import ShutDown, Watch
from treadle.queues.receipts import Receipt

__all__ = ["Empty", "Full", "JoinableQueue", "Letter", "Queue", "Receipt", "ShutDown", "SimpleQueue"]

T = TypeVar("T")
Q = TypeVar("Q", bound="_Shared[Any]")

ATTEMPTS = 3  # how often an object is given out, unless the queue says otherwise
OUT_OF_BAND = 8192  # bytes: buffers from this size on are not copied into the pickle
WATCH_SECONDS = 0.1  # how soon a watcher notices that it is no longer needed


def _dumps(value: Any) -> tuple[memoryview, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Whether the pickle itself shall have it."""
        try:
            large = buffer.raw().nbytes >= OUT_OF_BAND
        except BufferError:  # not contiguous
            return True
        if large:
            buffers.append(buffer)
        return not large

    file = io.BytesIO()
    ForkingPickler(file, 5, True, keep).dump(value)
    return file.getbuffer(), buffers


def _loads(data: bytes, buffers: list[bytearray] | None = None) -> Any:
    return pickle.loads(data, buffers=buffers)


_core.hook("dumps", _dumps)
_core.hook("loads", _loads)


def _attach(cls: type[Q], handle: tuple[int, int, int], state: dict[str, Any] | None) -> Q:
    """The queue of that handle, in this process."""
    queue = cls.__new__(cls)
    queue._attach(*handle)
    if state:
        queue.__dict__.update(state)
    return queue


class _Shared(SharedQueue, Generic[T]):
    """What all queues here can do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return handles.reduced(f"{__name__}:_attach", type(self), self._handle(), self.__dict__ or None)

    def close(self) -> None:
        """Say that this process uses this object no more: what follows is ValueError.  Others are not affected."""
        self._close()

    def __repr__(self) -> str:
        name = type(self).__qualname__
        home = type(self).__module__
        name = f"treadle.{name}" if home.startswith("treadle.") else f"{home}.{name}"
        size = f"{self.qsize()}/{self.maxsize}" if self.maxsize > 0 else f"{self.qsize()}"
        return f"<{name} at {id(self):#x}: {size} items{' shut down' if self._shut else ''}>"


class SimpleQueue(_Shared[T]):
    """First in, first out, without a limit; as `multiprocessing.SimpleQueue`.

    Safe in threads and processes.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        self._setup(0, ATTEMPTS)

    def empty(self) -> bool:
        """Whether there is no object now.  OSError after close()."""
        if self._closed:
            raise OSError("handle is closed")
        return super().empty()


class Letter(NamedTuple):
    """A dead letter: an object that was given out too often.  One that can't be unpickled here is its exception."""

    value: Any
    attempts: int


class Queue(_Shared[T], common.Iterable[T]):
    """First in, first out, between processes.  `maxsize` objects fit (0 or less: any number, as far as memory goes).

    As `multiprocessing.Queue`; and with `shutdown`, `put_many`, `get_many`, iteration, `aget`, `aput` and `take`.
    `ctx` is accepted for the standard library's sake, and not needed.  An object that was taken with `take` and not
    finished is given out again, up to `max_attempts` times in all (None: without a limit).

    It can be sent at any time, to any process of the session: as an argument of a Process, through another queue or a
    pipe, from child to child.  Safe in threads and processes.
    """

    _counts = False  # leaving a take() is task_done()

    def __init__(self, maxsize: int = 0, *, ctx: Any = None, max_attempts: int | None = ATTEMPTS) -> None:
        if max_attempts is not None and max_attempts < 1:
            raise ValueError("max_attempts must be 1 or more, or None")
        self._setup(int(maxsize), max_attempts or 0)

    def join_thread(self) -> None:
        """Does nothing: there is no thread to wait for, what was put is in the queue."""

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread, what was put is in the queue."""

    @property
    def is_shutdown(self) -> bool:
        """Whether shutdown() was called, in any process."""
        return self._shut

    def shutdown(self, immediate: bool = False) -> None:
        """Take no more objects: put() raises ShutDown at once, get() does when the queue is empty.

        With `immediate`, the objects that are left are dropped and counted as done.  Wakes all who wait, in every
        process.
        """
        self._shutdown(immediate)

    # -- several at once

    def put_many(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Put all items, in order, as one `put` each would.

        If that fails (Full after `timeout` seconds for all together, ShutDown, an interrupt, an error of pickling), the
        exception's attribute `rest` is the list of the items that were not put.  `items` is read to its end first.
        """
        rest = tuple(items)
        limit = None if timeout is None else time.monotonic() + timeout
        at = 0
        try:
            while at < len(rest):
                self.put(rest[at], block, None if limit is None else max(0.0, limit - time.monotonic()))
                at += 1
        except BaseException as error:
            error.rest = list(rest[at:])  # type: ignore[attr-defined]
            raise

    def get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take the items that are there, at most `most`; wait for the first one as `get` would.

        If an item can't be unpickled, or an interrupt comes, the exception's attribute `items` is the list of those
        that were taken before.
        """
        if most < 1:
            raise ValueError("most must be 1 or more")
        items: list[T] = [self.get(block, timeout)]
        try:
            while len(items) < most:
                items.append(self.get(False))
        except (Empty, ShutDown):
            pass
        except BaseException as error:
            error.items = items  # type: ignore[attr-defined]
            raise
        return items

    # -- with a receipt

    def take(self, block: bool = True, timeout: float | None = None) -> Receipt[T]:
        """``with queue.take() as item:`` takes an object that stays the queue's until the block has ended.

        `item.value` is the object, `item.attempt` says how often it was taken, this time included.  Leaving the block
        normally is the end of it.  If the block raises, or this process dies in it, the object goes back to where it
        was, and another `take` or `get` has it; after `max_attempts` times it is a dead letter.  `block` and `timeout`
        are those of `get`, which happens when the block is entered.
        """
        return Receipt(self, block, timeout, self._counts)

    def dead_letters(self, remove: bool = False) -> list[Letter]:
        """The objects that were given out `max_attempts` times and never finished; with `remove`, forget them."""
        return [Letter(*pair) for pair in self._dead_letters(remove)]

    def _watch(self, putters: bool, tell: Callable[[], None]) -> Watch:
        return Watcher(self, putters, tell)


class JoinableQueue(Queue[T]):
    """A `Queue` that counts what is not done yet; as `multiprocessing.JoinableQueue`.

    Leaving a `take` normally is `task_done` as well, and so is what becomes a dead letter.
    """

    _counts = True

    def task_done(self) -> None:
        """Say that one object that was taken is dealt with.  ValueError if there is none left."""
        self._task_done()

    def join(self) -> None:
        """Wait until task_done() was called for every object that was put."""
        self._join()


class Watcher:
    """A thread that tells when a queue has an object (or room).  Each `arm` is good for one call of `tell`, after which
    the queue should be looked at."""

    def __init__(self, queue: SharedQueue, putters: bool, tell: Callable[[], object]) -> None:
        self.queue = queue
        self.putters = putters
        self.tell = tell
        self.armed = _threading.Event()
        self.stopped = False
        _threading.Thread(target=self._run, name="treadle: a watched queue", daemon=True).start()

    def arm(self) -> None:
        """Tell about the next change, or at once if the queue is ready."""
        self.armed.set()

    def stop(self) -> None:
        """Tell no more.  The thread ends within `WATCH_SECONDS`."""
        self.stopped = True
        self.armed.set()
        self.queue._nudge(self.putters)  # what it was told and did not take, another one may

    def _run(self) -> None:
        _core.thread_role("service")
        while True:
            self.armed.wait()
            self.armed.clear()
            ready = False
            while not ready and not self.stopped:
                try:
                    ready = self.queue._await(self.putters, WATCH_SECONDS)
                except ValueError:  # it was closed, and says so to whoever looks
                    ready = True
            if self.stopped:
                self.queue._nudge(self.putters)
                return
            self.tell()
