"""What becomes of spaces in a forked child.

LMDB's state in memory is sound in the child if no thread was in the middle of an operation: so the parent takes each
store's lock for the moment of the fork.  The child has, as the parent, proxies, so it is registered as a holder of
their objects before the parent could give them up.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle.shared.filelock import FileLock

if TYPE_CHECKING:
    from treadle.shared.space import Space

__all__ = ["install"]

PATIENCE_SECONDS = 5.0  # how long a fork waits for another thread's transaction


class _Fork(NamedTuple):
    space: Space
    locked: bool  # by us, for the fork
    inside: bool  # the forking thread is in a transaction
    child: int  # the number of the child's record; 0: none yet


def install(spaces: Any) -> None:
    """`spaces()` lists those of this process."""
    forks: list[_Fork] = []

    def before() -> None:
        forks[:] = [_prepare(space) for space in spaces() if not space.store.closed]

    def in_parent() -> None:
        for fork in forks:
            if fork.locked:
                fork.space.store.lock.release()
        forks.clear()

    def in_child() -> None:
        for fork in forks:
            _arrive(fork)
        forks.clear()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _prepare(space: Space) -> _Fork:
    store = space.store
    inside = store.inside()
    if not inside and not store.lock.acquire(timeout=PATIENCE_SECONDS):
        return _Fork(space, False, False, 0)
    child = 0
    with contextlib.suppress(Exception):  # without the record the child registers itself, a moment later
        child = store.write(space.life.before_fork) if inside else store.exchange(space.life.before_fork)
    return _Fork(space, not inside, inside, child)


def _arrive(fork: _Fork) -> None:
    space, store = fork.space, fork.space.store
    busy = store.current is not None and not fork.inside
    store.forked(reopen=fork.inside)
    space.life.forked(fork.child)
    if busy:
        # Another thread was in a transaction for longer than we wanted to wait.
        store.lock = _Unusable()
    elif fork.locked:
        with store.lock:
            store.exchange(space.life.born)
    else:
        # The parent may hold the lock for long, and may wait for this child: register with the first operation.
        store.lock = _Later(space)


class _Later:
    """Stands for a store's lock until the child is registered."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._lock = space.store.lock

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        if not self._lock.acquire(block, timeout):
            return False
        store = self._space.store
        try:
            if store.lock is self:
                store.reopen()
                store.exchange(self._space.life.born)
                store.lock = self._lock
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def forked(self) -> None:
        if isinstance(self._lock, FileLock):
            self._lock.forked()

    def close(self) -> None:
        if isinstance(self._lock, FileLock):
            self._lock.close()


class _Unusable(_Later):
    """Stands for the lock of a store whose state in this process is not known."""

    def __init__(self) -> None:
        pass

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        raise RuntimeError(
            "this process was forked while another thread was in a transaction of the manager, so it can't use it"
        )

    def forked(self) -> None:
        pass

    def close(self) -> None:
        pass
