"""The contexts: one for each start method, and the default one, whose start method the program may choose."""

# The standard library's signatures name its own classes.
# mypy: disable-error-code="override,assignment"

from __future__ import annotations

import os
from collections.abc import Iterable
from multiprocessing import context
from typing import TYPE_CHECKING, Any

from treadle.queues import shared as queues
from treadle.sync import shared as sync

from . import processes

if TYPE_CHECKING:
    from treadle.shared import Manager

__all__ = ["CONCRETE", "DefaultContext", "ForkContext", "ForkServerContext", "SpawnContext", "default", "force"]

START_METHODS = ("forkserver", "spawn", "fork")  # the default first


class _Context(context.BaseContext):
    """What the four have in common."""

    def get_context(self, method: str | None = None) -> Any:
        """The context for a start method; without one this context."""
        if method is None:
            return self
        # Those of other libraries (loky's) have registered with the standard library's module.
        found = CONCRETE.get(method) or context._concrete_contexts.get(method)  # type: ignore[attr-defined]
        if found is None:
            raise ValueError(f"cannot find context for {method!r}")
        found._check_available()
        return found

    # The classes themselves: what is made with them needs no context.
    Lock = sync.Lock
    RLock = sync.RLock
    Semaphore = sync.Semaphore
    BoundedSemaphore = sync.BoundedSemaphore
    Condition = sync.Condition
    Event = sync.Event
    Barrier = sync.Barrier
    Queue = queues.Queue
    JoinableQueue = queues.JoinableQueue
    SimpleQueue = queues.SimpleQueue

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A ctypes object in shared memory, without a lock, as `multiprocessing.RawValue`.

        `typecode_or_type` is a ctypes type or a letter as for `array.array`; `args` are its constructor's.  TypeError
        for what is neither, MemoryError or OSError without room.  It can be pickled at any time.  Not safe where
        several threads or processes change it.
        """
        from treadle.shared import raw

        return raw.RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """A ctypes array in shared memory, without a lock, as `multiprocessing.RawArray`.

        `size_or_initializer` is its length (of zeros), or a sequence of its values; for the rest, see `RawValue`.
        """
        from treadle.shared import raw

        return raw.RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A ctypes object in shared memory, with a lock, as `multiprocessing.Value`.

        Reading or writing its `value` is one safe step; ``with v.get_lock():`` makes one of several (``v.value += 1``).
        `lock` may be a lock of your own, or False for what `RawValue` makes.  For the rest, see there.
        """
        from treadle.shared import raw

        return raw.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """A ctypes array in shared memory, with a lock, as `multiprocessing.Array`.

        Each access of an item or a slice is one safe step; `lock` and `get_lock` are as for `Value`, the other
        arguments as for `RawArray`.
        """
        from treadle.shared import raw

        return raw.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def Manager(self, path: str | os.PathLike[str] | None = None, *, sync: bool = False) -> Manager:
        """Makes dicts, lists and more that processes share, without a server process; see `treadle.shared.Manager`.

        With `path` they are in that file, and last; with `sync` each change is on the disk before it returns.  OSError
        if the file can't be opened.
        """
        from treadle.shared import Manager

        return Manager(path, sync=sync, ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        """A pool of `processes` worker processes (default: one for each CPU), as `multiprocessing.Pool`.

        Each calls ``initializer(*initargs)`` first, and is replaced after `maxtasksperchild` calls.  ValueError for a
        number below 1, TypeError for an `initializer` that can't be called.  Every method is thread-safe.
        """
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Modules that the fork server loads before it starts processes, which then have them.

        `on_error` is for a module that can't be imported: "ignore", "warn" or "fail".
        """
        from . import preloading

        preloading.choose(module_names, on_error)


class DefaultContext(_Context, context.DefaultContext):
    """The context of the module's own functions."""

    Process = processes.Process

    _actual_context: Any
    _default_context: Any

    def get_context(self, method: str | None = None) -> Any:
        """The context for a start method; without one that for the program's choice, which thereby is made."""
        if method is None:
            if self._actual_context is None:
                self._actual_context = self._default_context
            return self._actual_context
        return super().get_context(method)

    def get_all_start_methods(self) -> list[str]:
        """The start methods that work here, the default one first."""
        return [method for method in START_METHODS if method in CONCRETE]


class ForkContext(_Context, context.ForkContext):
    """Processes begin as copies of this one."""

    Process = processes.ForkProcess


class SpawnContext(_Context, context.SpawnContext):
    """Processes begin as new interpreters."""

    Process = processes.SpawnProcess


class ForkServerContext(_Context, context.ForkServerContext):
    """Processes begin as copies of a small process without threads."""

    Process = processes.ForkServerProcess


CONCRETE: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
try:
    CONCRETE["forkserver"]._check_available()
except ValueError:
    default = DefaultContext(CONCRETE["spawn"])
else:
    default = DefaultContext(CONCRETE["forkserver"])


def force(method: str) -> None:
    """In a child that was started by that method: go on with it."""
    default._actual_context = CONCRETE[method]
