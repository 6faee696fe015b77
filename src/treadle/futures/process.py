"""`concurrent.futures.process`: `ProcessPoolExecutor` on treadle's processes."""

# The standard library's attributes of these names are of other types.
# mypy: disable-error-code="override,assignment"

from __future__ import annotations

import concurrent.futures.process as _stdlib
import multiprocessing
import os
import select
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ..errors import RemoteTraceback
from ..multiprocessing import contexts
from ..pool.engines.processes import ProcessEngine
from ..pool.pool import Pool
from ..pool.waits import wait
from .executors import Face, workers

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

_RemoteTraceback = RemoteTraceback


class ProcessPoolExecutor(Face, _stdlib.ProcessPoolExecutor):
    """An executor whose workers are processes.

    `max_workers`: how many calls may run at once (default: the CPUs that this process may use).  `mp_context`: a
    context of `treadle.multiprocessing` or of the standard library; its start method says how workers are made
    (default: the one that the program has set, else forkserver).  Each worker calls ``initializer(*initargs)`` first.
    After `max_tasks_per_child` calls a worker is replaced by a new one.

    `Future.cancel` does not end a call that runs, except where asyncio waits for it (`run_in_executor`): there its
    worker is killed.

    A worker that dies fails the call that it ran, with a `treadle.WorkerDied`, which is a `BrokenProcessPool`; other
    calls and the executor go on.

    Raises ValueError for less than one worker or one call, and for `max_tasks_per_child` with the start method fork;
    TypeError for an initializer that can't be called.
    """

    _has_chunks = True

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        # Instead of the inherited __init__, which makes queues for processes of its own.
        count = workers(max_workers)
        self._mp_context = context = _default_context() if mp_context is None else mp_context
        method = context.get_start_method(allow_none=False)
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if method == "fork":
                raise ValueError("max_tasks_per_child is incompatible with the 'fork' multiprocessing start method")
        self._adopt(
            Pool(
                count,
                "processes",
                start_method=method,
                initializer=initializer,
                initargs=initargs,
                max_tasks_per_worker=max_tasks_per_child,
            )
        )
        self._engine.keep_exits = True

    def terminate_workers(self) -> None:
        """End every worker by SIGTERM, and take no more calls: those that wait are cancelled, those that run fail."""
        self._end_workers(signal.SIGTERM)

    def kill_workers(self) -> None:
        """The same by SIGKILL, which nobody can ignore."""
        self._end_workers(signal.SIGKILL)

    def _end_workers(self, number: signal.Signals) -> None:
        self.shutdown(wait=False, cancel_futures=True)
        for process in self._processes.values():
            process.send_signal(number)

    @property
    def _engine(self) -> ProcessEngine:
        engine = self._pool.driver.engine
        assert isinstance(engine, ProcessEngine)
        return engine

    @property
    def _processes(self) -> dict[int, WorkerProcess]:
        """The workers by their pid.  Those that have just been asked for are waited for, so that they have one."""
        driver = self._pool.driver
        driver.drop([])  # what was submitted before is taken in when this returns
        engine = self._engine
        found = {}
        for worker in driver.snapshot()[0].workers.copy():
            pid = engine.wait_started(worker)
            if pid is not None:
                found[pid] = WorkerProcess(engine, worker, pid)
        return found


class WorkerProcess:
    """A worker, as those see it who look into an executor: what they use of `multiprocessing.Process`."""

    def __init__(self, engine: ProcessEngine, worker: int, pid: int) -> None:
        self._engine = engine
        self._worker = worker
        self.pid = pid

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still is there."""
        self._engine.send_signal(self._worker, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def is_alive(self) -> bool:
        """Is it there (still)?"""
        return self._engine.pid(self._worker) == self.pid

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive():  # and so the descriptor is for it, not for a later process with its number
                poll = select.poll()
                poll.register(fd, select.POLLIN)
                wait(lambda seconds: bool(poll.poll(None if seconds is None else seconds * 1000)), timeout)
        finally:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<treadle worker {self._worker}, pid {self.pid}>"


def _default_context() -> Any:
    """The context that the program has chosen, in our module or the standard library's, or our default."""
    chosen = contexts.default.get_start_method(allow_none=True)
    if chosen is None:
        chosen = multiprocessing.get_start_method(allow_none=True)
    return contexts.default.get_context(chosen)


def __getattr__(name: str) -> Any:
    return getattr(_stdlib, name)
