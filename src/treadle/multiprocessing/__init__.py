"""Drop-in for the standard library's `multiprocessing`: the same names and contract, with processes that tell how they
ended and don't outlive their parent.

Beyond it: `Process.result`, `.exception`, `.interrupt`, `.suspend` and `.resume`; lambdas, closures and functions of
``__main__`` as targets under every start method, also without ``if __name__ == "__main__"``; children of daemonic
processes; forkserver as the default start method on every version of Python; and what newer Pythons have.

The submodules (`treadle.multiprocessing.connection`, ...) are there too; those in which nothing is replaced are the
standard library's themselves.  Who is whose child, the authentication key and logging are shared with the standard
library, so programs may mix the two.
"""

from __future__ import annotations

import importlib as _importlib
import multiprocessing as _stdlib
import os as _os
import sys as _sys
from multiprocessing.context import AuthenticationError, BufferTooShort, ProcessError, TimeoutError
from multiprocessing.process import active_children, current_process, parent_process
from types import ModuleType as _ModuleType
from typing import Any as _Any

from treadle.queues.shared import JoinableQueue, Queue, SimpleQueue
from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

from . import contexts as _contexts
from .processes import Process

_default = _contexts.default

Array = _default.Array
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
RawArray = _default.RawArray
RawValue = _default.RawValue
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
reducer = _default.reducer
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method

SUBDEBUG = 5
SUBWARNING = 25

__all__ = [
    "Array", "AuthenticationError", "Barrier", "BoundedSemaphore", "BufferTooShort", "Condition", "Event",
    "JoinableQueue", "Lock", "Manager", "Pipe", "Pool", "Process", "ProcessError", "Queue", "RLock", "RawArray",
    "RawValue", "Semaphore", "SimpleQueue", "TimeoutError", "Value", "active_children", "allow_connection_pickling",
    "cpu_count", "current_process", "freeze_support", "get_all_start_methods", "get_context", "get_logger",
    "get_start_method", "log_to_stderr", "parent_process", "reducer", "set_executable", "set_forkserver_preload",
    "set_start_method",
]  # fmt: skip
__all__ += [name for name in _stdlib.__all__ if name not in __all__]  # a newer Python's

_SUBMODULES = (
    "connection", "context", "dummy", "forkserver", "heap", "managers", "pool", "popen_fork", "popen_forkserver",
    "popen_spawn_posix", "process", "queues", "reduction", "resource_sharer", "resource_tracker", "shared_memory",
    "sharedctypes", "spawn", "synchronize", "util",
)  # fmt: skip


class _Face(_ModuleType):
    def __reduce__(self) -> _Any:
        return _importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> _Any:
        if name in _SUBMODULES:
            return _importlib.import_module(f"{self.__name__}.{name}")
        if name in self.__dict__["__all__"]:
            return getattr(_default, name)
        try:
            return getattr(_stdlib, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *_SUBMODULES, *dir(_stdlib)})


_sys.modules[__name__].__class__ = _Face

if _os.environ.get("TREADLE_ON_STUCK"):
    from treadle.diagnose import asleep as _asleep

    _asleep.begin_by_variable()
