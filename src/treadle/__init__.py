"""treadle: threads, processes and pools that never hang in silence, never lose work, and say why they wait.

    treadle.map(fn, items)      a function over many inputs: lazy, bounded, one bad item spoils one item
    treadle.Pool()              an executor for threads or processes that survives what its tasks do

How the package is laid out; a layer imports only what stands above it:

    errors.py          every exception and warning, grouped by whose fault it is
    progress.py        the progress display
    _native/           the C core: locks that know their owner, the board that diagnosis reads, queues, a pool's lanes
    recording/         traces: who ran and waited when
    sync/              Barrier, RWLock, Thread, shared locks, and the words that a deadlock is reported in
    queues/            local: for the threads and event loops of one process; shared: between processes
    shared/            data that several processes change: managers, buffers, values
    waiting.py         wait() for the first of several things
    pool/              state.py is the brain, driver.py the hands, engines/ where tasks run
    diagnose/          who waits for whom, since when, and where
    threading.py       drop-in faces of the standard library's modules
    queue.py
    futures/
    multiprocessing/   and processes: their start, their end, their result
    stand_ins.py       install(): `import threading` and its like mean these
    testing/           leak check and other tools, for our users' tests and ours
    cli/               one file a command
    examples/          short programs, one for each idea

To pytest, of which there is a plug-in in here: PYTEST_DONT_REWRITE.  It warns of plug-ins that are imported before it,
as under `treadle run -m pytest`, and where warnings are errors that is the end of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .errors import (
        ClusterLost,
        DeadlockError,
        DeadlockWarning,
        EngineMissing,
        Interrupted,
        LockRecoveredWarning,
        ManagerClosed,
        MemoryLimitExceeded,
        ModuleRefused,
        OwnerDied,
        PoolClosed,
        ProcessDied,
        RemoteError,
        RemoteTraceback,
        ResultNotLoadable,
        ResultNotPicklable,
        SharedObjectGone,
        TaskFailure,
        TaskNotLoadable,
        TaskNotPicklable,
        TaskTimeout,
        TreadleError,
        Unsupported,
        WorkerDied,
        WorkerStartError,
        failure,
    )
    from .pool.cpus import available_cpus
    from .pool.decision import Decision
    from .pool.future import Future
    from .pool.inbox import Outcome
    from .pool.maps import MapIterator
    from .pool.pool import Pool, map
    from .pool.stats import PoolStats, WorkerStats
    from .shared.buffers import share
    from .stand_ins import install
    from .waiting import wait

# Each public name and the module that it lives in, imported when it is first used: `import treadle` is cheap.
_HOMES = {
    **dict.fromkeys(("Pool", "map"), "pool.pool"),
    "MapIterator": "pool.maps",
    "Outcome": "pool.inbox",
    **dict.fromkeys(("PoolStats", "WorkerStats"), "pool.stats"),
    "Decision": "pool.decision",
    "Future": "pool.future",
    "available_cpus": "pool.cpus",
    "wait": "waiting",
    "share": "shared.buffers",
    "install": "stand_ins",
    **dict.fromkeys(
        (
            "TreadleError", "TaskFailure", "RemoteTraceback", "failure", "WorkerDied", "ProcessDied", "TaskTimeout",
            "RemoteError", "MemoryLimitExceeded",
            "TaskNotPicklable", "TaskNotLoadable", "ResultNotPicklable", "ResultNotLoadable", "PoolClosed",
            "WorkerStartError", "DeadlockError", "DeadlockWarning", "Interrupted", "OwnerDied", "LockRecoveredWarning",
            "SharedObjectGone", "ManagerClosed", "Unsupported", "EngineMissing", "ClusterLost",
            "ModuleRefused",
        ),
        "errors",
    ),
}  # fmt: skip

# The same for modules that users speak of by their full names: `treadle.diagnose.waits()` after `import treadle`.
_MODULES = frozenset({"diagnose", "engines", "errors", "futures", "multiprocessing", "queue", "testing", "threading"})

__all__ = [
    "ClusterLost",
    "DeadlockError",
    "DeadlockWarning",
    "Decision",
    "EngineMissing",
    "Future",
    "Interrupted",
    "LockRecoveredWarning",
    "ManagerClosed",
    "MapIterator",
    "MemoryLimitExceeded",
    "ModuleRefused",
    "Outcome",
    "OwnerDied",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "ProcessDied",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotLoadable",
    "ResultNotPicklable",
    "SharedObjectGone",
    "TaskFailure",
    "TaskNotLoadable",
    "TaskNotPicklable",
    "TaskTimeout",
    "TreadleError",
    "Unsupported",
    "WorkerDied",
    "WorkerStartError",
    "WorkerStats",
    "available_cpus",
    "failure",
    "install",
    "map",
    "share",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)  # which binds it here, too
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
