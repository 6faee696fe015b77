"""Drop-in for the standard library's `concurrent.futures`: the same names and contract, on treadle's pool.

Beyond it: a worker that dies fails the one task that it ran, with a `treadle.WorkerDied` that is a `BrokenProcessPool`,
and the executor goes on; lambdas and functions of ``__main__`` work in processes; a task that waits for another one of
its own executor, by `result`, `wait` or `as_completed`, starves nobody; leaving the program finishes the work; and what
newer Pythons have (`map(buffersize=)`, `terminate_workers`, `kill_workers`) is there on all of them.

The executors are instances of the standard library's classes, and their futures of its `Future`, so whatever asks for
these (asyncio's default executor, for one) takes ours.
"""

from __future__ import annotations

import concurrent.futures as _stdlib
import sys as _sys
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
)
from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from .interpreter import InterpreterPoolExecutor
    from .process import ProcessPoolExecutor
    from .thread import ThreadPoolExecutor
    from .waits import as_completed, wait

TimeoutError = TimeoutError  # the same class since Python 3.11

__all__ = [
    "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED",
    "CancelledError", "TimeoutError", "InvalidStateError", "BrokenExecutor",
    "Future", "Executor", "wait", "as_completed",
    "ProcessPoolExecutor", "ThreadPoolExecutor",
]  # fmt: skip

if _sys.version_info >= (3, 14):
    __all__ += ["InterpreterPoolExecutor"]

# Imported when first used, as the standard library does.
_HOMES = {
    "ThreadPoolExecutor": "thread",
    "ProcessPoolExecutor": "process",
    "InterpreterPoolExecutor": "interpreter",
    "wait": "waits",
    "as_completed": "waits",
}


def __getattr__(name: str) -> _Any:
    home = _HOMES.get(name)
    if home is None and name not in ("__path__", "__file__") and hasattr(_stdlib, name):  # what it keeps to itself
        return getattr(_stdlib, name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "InterpreterPoolExecutor" and _sys.version_info < (3, 14):
        raise AttributeError("InterpreterPoolExecutor needs Python 3.14 or newer")
    value = globals()[name] = getattr(_import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
