"""What a pool says of itself."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import shorten
from .driver import Driver
from .task import Task


class WorkerStats(NamedTuple):
    """One worker: `state` is starting, idle, running, stopping or killed; `seconds` is how long it runs its task."""

    id: int
    state: str
    pid: int | None
    running: str | None
    seconds: float


class PoolStats(NamedTuple):
    """A pool at one moment.  `done`, `failed` and `cancelled` count tasks that have ended, `restarts` lost workers.

    `retrying` are tasks that have failed and wait, in no worker, for their next attempt; they are not in `queued`.
    """

    workers: list[WorkerStats]
    queued: int
    done: int
    failed: int
    cancelled: int
    restarts: int
    retrying: int = 0


def take(driver: Driver) -> PoolStats:
    """A snapshot; the counts are of one moment, what the workers run is looked up right after it."""
    state, rows = driver.snapshot()
    workers = []
    for id, kind, pid, task, seconds in rows:
        if kind == "ready":
            kind = "running" if task else "idle"
        workers.append(WorkerStats(id, kind, pid, _title(task) if task else None, seconds))
    return PoolStats(
        workers, state.queued, state.done, state.failed, state.cancelled, state.restarts, len(state.waiting)
    )


def _title(task: Task) -> str:
    name = getattr(task.call.fn, "__qualname__", None) or type(task.call.fn).__name__
    args = ", ".join(shorten(arg, 40) for arg in task.call.args)
    return f"{name}({args})"
