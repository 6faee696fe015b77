"""`concurrent.futures.thread`: `ThreadPoolExecutor` on treadle's threads."""

# The standard library's attributes of these names are of other types.
# mypy: disable-error-code="override,assignment"

from __future__ import annotations

import concurrent.futures.thread as _stdlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

from ..pool.engines.threads import ThreadEngine
from ..pool.pool import EngineName, Pool
from .executors import Face, workers

__all__ = ["BrokenThreadPool", "ThreadPoolExecutor"]

_numbers = itertools.count()


class ThreadPoolExecutor(Face, _stdlib.ThreadPoolExecutor):
    """An executor whose workers are threads of this process.

    `max_workers`: how many calls may run at once (default: the CPUs and 4 more, at most 32).  Threads are called
    `thread_name_prefix`, ``_`` and a number.  Each calls ``initializer(*initargs)`` first; where that raises, the calls
    that wait fail with a `treadle.WorkerStartError`, which is a `BrokenThreadPool`, and later ones try again.

    Raises ValueError for less than one worker, TypeError for an initializer that can't be called.
    """

    _ENGINE: EngineName = "threads"

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        # Instead of the inherited __init__, which makes a queue and locks for threads of its own.
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(_numbers)}"
        self._adopt(Pool(workers(max_workers), self._ENGINE, initializer=initializer, initargs=initargs))
        self._thread_name_prefix = prefix
        self._engine.thread_name_prefix = prefix
        self._engine.keep_exits = True

    @property
    def _engine(self) -> ThreadEngine:
        engine = self._pool.driver.engine
        assert isinstance(engine, ThreadEngine)
        return engine

    @property
    def _threads(self) -> set[threading.Thread]:
        self._pool.driver.drop([])  # what was submitted before is taken in when this returns
        return set(self._engine.threads())


def __getattr__(name: str) -> Any:
    return getattr(_stdlib, name)
