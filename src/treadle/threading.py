"""Drop-in for the standard library's `threading`: the same names and contract, with locks that know their owner.

Beyond it: a deadlock raises `DeadlockError` instead of hanging; `Thread.result`, `.exception` and `.interrupt`;
`Lock(name=...)`; `RWLock`; and what newer Pythons have (`RLock.locked`, `Thread(context=...)`, `serialize_iterator`,
...) on all of them.

Names that are not listed here, and assignments to them (``threading.excepthook = ...``), go to the standard library's
module, so both see the same threads.
"""

from __future__ import annotations

import importlib as _importlib
import os as _os
import sys as _sys
import threading as _stdlib
from threading import (
    TIMEOUT_MAX,
    ExceptHookArgs,
    ThreadError,
    active_count,
    current_thread,
    enumerate,
    get_ident,
    get_native_id,
    getprofile,
    gettrace,
    local,
    main_thread,
    setprofile,
    settrace,
    stack_size,
)
from types import ModuleType as _ModuleType
from typing import Any as _Any

from treadle.errors import DeadlockError, DeadlockWarning, Interrupted
from treadle.sync import (
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Event,
    Lock,
    RLock,
    RWLock,
    Semaphore,
    Thread,
    Timer,
    concurrent_tee,
    serialize_iterator,
    synchronized_iterator,
)

__all__ = [
    "get_ident", "get_native_id", "active_count", "current_thread", "enumerate", "main_thread", "TIMEOUT_MAX",
    "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "BrokenBarrierError",
    "Thread", "Timer", "ThreadError", "local", "stack_size", "ExceptHookArgs",
    "settrace", "gettrace", "setprofile", "getprofile",
    "serialize_iterator", "synchronized_iterator", "concurrent_tee",
    "RWLock", "DeadlockError", "DeadlockWarning", "Interrupted",
]  # fmt: skip
__all__ += ["excepthook"]  # noqa: F822 - not imported: assignments to it must reach the standard library's module
__all__ += [name for name in ("settrace_all_threads", "setprofile_all_threads") if hasattr(_stdlib, name)]
_CRLock = RLock


_taken_away: set[str] = set()  # the standard library's names that were deleted: an assignment puts them back there


class _Face(_ModuleType):
    def __reduce__(self) -> _Any:
        return _importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> _Any:
        if name in ("__path__", "__file__"):
            raise AttributeError(name)
        try:
            return getattr(_stdlib, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: _Any) -> None:
        own = name in self.__dict__ or name.startswith("__")
        if own or not (hasattr(_stdlib, name) or name in _taken_away):
            super().__setattr__(name, value)
        else:
            setattr(_stdlib, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            super().__delattr__(name)
        else:
            delattr(_stdlib, name)
            _taken_away.add(name)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *dir(_stdlib)})


_sys.modules[__name__].__class__ = _Face

if _os.environ.get("TREADLE_ON_STUCK"):
    from treadle.diagnose import asleep as _asleep

    _asleep.begin_by_variable()
