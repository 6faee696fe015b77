"""Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event and Barrier for the threads of several processes.

They are like those of `multiprocessing`, in the session's shared memory: each can be pickled at any time and sent to
any process of the session, under every start method, and each survives a kill -9 of any process at any moment.  The
locks are in C; here is what is not worth that, and how they are pickled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing import process as _process
from typing import Any, TypeVar

from treadle._native import _core
from treadle._native._core import SharedLock as Lock
from treadle._native._core import SharedRLock as RLock
from treadle.errors import SharedObjectGone
from treadle.handles import reduced
from treadle.sync.barrier import BrokenBarrierError

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

_T = TypeVar("_T")


class Semaphore(_core.SharedSemaphore):
    """A counter of permits: acquire() takes one and waits while there is none, release() gives one.

    Like multiprocessing.Semaphore.  The permits that a process has when it dies come back, as far as they are missing:
    never more than `value` altogether.  ValueError if value < 0.  Safe for threads and processes.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None, name: str | None = None) -> None:
        self._open(value, False, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)})>"


class BoundedSemaphore(Semaphore):
    """A Semaphore that raises ValueError when it is released above its first value."""

    def __init__(self, value: int = 1, *, ctx: Any = None, name: str | None = None) -> None:
        self._open(value, True, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)}, maxvalue={self._bound})>"


def _value(semaphore: Semaphore) -> int | str:
    try:
        return semaphore.get_value()
    except RuntimeError:
        return "unknown"


class _Count:
    """What programs look at that know the insides of the standard library's Condition: a number."""

    __slots__ = ("_count",)

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def get_value(self) -> int:
        return self._count()


def _nobody() -> int:
    return 0


class Condition(_core.SharedCondition):
    """Threads of any process wait until another one notifies them that something has changed.

    Like multiprocessing.Condition; `lock` is a Lock or RLock of this module (None: a new RLock).  A dead waiter takes
    no notification from a living one.  Safe for threads and processes.
    """

    def __init__(self, lock: Lock | RLock | None = None, *, ctx: Any = None, name: str | None = None) -> None:
        self._open(RLock() if lock is None else lock, name)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock: its own acquire()."""
        return self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until predicate() is true, for at most `timeout` seconds.  Return its last value."""
        result = predicate()
        end = None if timeout is None else time.monotonic() + timeout
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock!r}, {self._waiters()})>"

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiters)

    @property
    def _woken_count(self) -> _Count:
        return _Count(_nobody)

    @property
    def _wait_semaphore(self) -> _Count:
        return _Count(_nobody)


class Event(_core.SharedEvent):
    """A flag that threads of any process can wait for.  Like multiprocessing.Event.  Safe for threads and processes."""

    def __init__(self, *, ctx: Any = None, name: str | None = None) -> None:
        self._open(name)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


class Barrier(_core.SharedBarrier):
    """`parties` threads of any processes wait in `wait()` until all of them are there; then all go on.

    Like multiprocessing.Barrier.  `action`, if given, is called by one of them before they do; it is pickled with the
    barrier.  `timeout` (seconds) is the default for `wait()`.  If a process dies that has arrived, the barrier breaks
    for the others within 0.2 s.  ValueError if parties < 1.  Safe for threads and processes.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
        name: str | None = None,
    ) -> None:
        self._open(parties, name)
        self._action = action
        self._timeout = timeout

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others.  Return a number from 0 to parties - 1, another one in each thread.

        Raises `BrokenBarrierError` if the barrier is or gets broken, is reset meanwhile, or not all come within
        `timeout` seconds (None: the barrier's own time-out).
        """
        index = self._wait(self._action, self._timeout if timeout is None else timeout)
        if index is None:
            raise BrokenBarrierError
        return index

    def __repr__(self) -> str:
        name = type(self).__qualname__
        if self.broken:
            return f"<{name} at {id(self):#x}: broken>"
        return f"<{name} at {id(self):#x}: waiters={self.n_waiting}/{self.parties}>"


# -- how they are pickled


_KINDS: dict[str, type[_core.Shared]] = {
    "Lock": Lock,
    "RLock": RLock,
    "Semaphore": Semaphore,
    "BoundedSemaphore": BoundedSemaphore,
    "Condition": Condition,
    "Event": Event,
    "Barrier": Barrier,
    "SharedCells": _core.SharedCells,
}


def _reduce(this: _core.Shared) -> tuple[Any, ...]:
    """What `__reduce__` returns.  Our own classes go by their names, so that the receiver joins the session first."""
    cls = type(this)
    kind: str | type[_core.Shared] = cls.__name__ if _KINDS.get(cls.__name__) is cls else cls
    parts: list[Any] = []
    if isinstance(this, Condition):
        parts.append(this._lock)
    elif isinstance(this, Barrier):
        parts.append(this._cells())
    return reduced("treadle.sync.shared:receive", kind, this._send(), parts, this.__dict__ or None)


def receive(
    kind: str | type[_core.Shared], place: tuple[int, int], parts: list[Any], attributes: dict[str, Any] | None
) -> _core.Shared:
    """Unpickle: the object of this process that refers to what is at `place`."""
    cls = _KINDS[kind] if isinstance(kind, str) else kind
    this = cls.__new__(cls)
    this._receive(*place)
    if isinstance(this, Condition):
        this._set_lock(*parts)
    elif isinstance(this, Barrier):
        this._receive_cells(*parts)
    if attributes:
        this.__dict__.update(attributes)
    return this


def _repr(this: _core.Shared) -> str:
    """The repr of locks, in the words of `multiprocessing`."""
    assert isinstance(this, (Lock, RLock))
    count: int | str = 0
    try:
        if this._is_mine():
            owner, count = _process.current_process().name, this._count()
            if threading.current_thread().name != "MainThread":
                owner += f"|{threading.current_thread().name}"
        elif not this.locked():
            owner = "None"
        elif this._count() > 0:
            owner, count = "SomeOtherThread", "nonzero"
        else:
            owner, count = "SomeOtherProcess", "nonzero"
    except RuntimeError:
        owner, count = "unknown", "unknown"
    name = type(this).__name__
    return f"<{name}({owner}, {count})>" if isinstance(this, RLock) else f"<{name}(owner={owner})>"


_core.hook("on_reduce", _reduce)
_core.hook("on_repr", _repr)
_core.hook("gone", SharedObjectGone)
