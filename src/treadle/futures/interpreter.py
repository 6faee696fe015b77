"""`concurrent.futures.interpreter`: `InterpreterPoolExecutor` on treadle's interpreters.  Python 3.14 and newer."""

from __future__ import annotations

import concurrent.futures.interpreter as _stdlib  # type: ignore[import-not-found,unused-ignore]
import itertools
from collections.abc import Callable
from concurrent.futures.interpreter import BrokenInterpreterPool  # type: ignore[import-not-found,unused-ignore]
from typing import Any

from ..pool.pool import EngineName
from .thread import ThreadPoolExecutor

__all__ = ["BrokenInterpreterPool", "InterpreterPoolExecutor"]

_numbers = itertools.count()


class InterpreterPoolExecutor(ThreadPoolExecutor, _stdlib.InterpreterPoolExecutor):  # type: ignore[misc,unused-ignore]
    """An executor whose workers are interpreters of this process, each in a thread and with a lock of its own.

    As `ThreadPoolExecutor`; functions, arguments and results are pickled, as for processes, so closures and functions
    of ``__main__`` are welcome too.  What a call changes in a module changes in its worker's interpreter only.
    """

    _ENGINE: EngineName = "interpreters"

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        prefix = thread_name_prefix or f"InterpreterPoolExecutor-{next(_numbers)}"
        super().__init__(max_workers, prefix, initializer, initargs)


def __getattr__(name: str) -> Any:
    return getattr(_stdlib, name)
