"""treadle: threads, processes and pools that never hang in silence, never lose work, and say why they wait.

    treadle.map(fn, items)      a function over many inputs: lazy, bounded, one bad item spoils one item
    treadle.Pool()              an executor for threads or processes that survives what its tasks do

How the package is laid out; a layer imports only what stands above it:

    errors.py          every exception and warning, grouped by whose fault it is
    progress.py        the progress display
    _native/           the C core: locks that know their owner, the board that diagnosis reads, the local queue
    sync/              Barrier, RWLock, Thread, and the words that a deadlock is reported in
    queues/            local: for the threads and event loops of one process
    waiting.py         wait() for the first of several things
    pool/              state.py is the brain, driver.py the hands, engines/ where tasks run
    diagnose/          who waits for whom, since when, and where
    threading.py       drop-in faces of the standard library's modules
    queue.py
    testing/           leak check and other tools, for our users' tests and ours
    cli/               one file a command
    examples/          short programs, one for each idea
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .errors import (
        DeadlockError,
        DeadlockWarning,
        Interrupted,
        LockRecoveredWarning,
        OwnerDied,
        PoolClosed,
        RemoteError,
        RemoteTraceback,
        ResultNotLoadable,
        ResultNotPicklable,
        TaskFailure,
        TaskNotLoadable,
        TaskNotPicklable,
        TaskTimeout,
        TreadleError,
        WorkerDied,
        WorkerStartError,
        failure,
    )
    from .pool.cpus import available_cpus
    from .pool.decision import Decision
    from .pool.future import Future
    from .pool.maps import MapIterator, Outcome
    from .pool.pool import Pool, map
    from .pool.stats import PoolStats, WorkerStats
    from .waiting import wait

# Each public name and the module that it lives in, imported when it is first used: `import treadle` is cheap.
_HOMES = {
    **dict.fromkeys(("Pool", "map"), "pool.pool"),
    **dict.fromkeys(("MapIterator", "Outcome"), "pool.maps"),
    **dict.fromkeys(("PoolStats", "WorkerStats"), "pool.stats"),
    "Decision": "pool.decision",
    "Future": "pool.future",
    "available_cpus": "pool.cpus",
    "wait": "waiting",
    **dict.fromkeys(
        (
            "TreadleError", "TaskFailure", "RemoteTraceback", "failure", "WorkerDied", "TaskTimeout", "RemoteError",
            "TaskNotPicklable", "TaskNotLoadable", "ResultNotPicklable", "ResultNotLoadable", "PoolClosed",
            "WorkerStartError", "DeadlockError", "DeadlockWarning", "Interrupted", "OwnerDied", "LockRecoveredWarning",
        ),
        "errors",
    ),
}  # fmt: skip

__all__ = [
    "DeadlockError",
    "DeadlockWarning",
    "Decision",
    "Future",
    "Interrupted",
    "LockRecoveredWarning",
    "MapIterator",
    "Outcome",
    "OwnerDied",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotLoadable",
    "ResultNotPicklable",
    "TaskFailure",
    "TaskNotLoadable",
    "TaskNotPicklable",
    "TaskTimeout",
    "TreadleError",
    "WorkerDied",
    "WorkerStartError",
    "WorkerStats",
    "available_cpus",
    "failure",
    "map",
    "wait",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
