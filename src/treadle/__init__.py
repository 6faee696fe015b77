"""treadle: threads, processes and pools that never hang in silence, never lose work, and say why they wait.

    treadle.map(fn, items)      a function over many inputs: lazy, bounded, one bad item spoils one item
    treadle.Pool()              an executor for threads or processes that survives what its tasks do

How the package is laid out; a layer imports only what stands above it:

    errors.py          every exception and warning, grouped by whose fault it is
    progress.py        the progress display
    pool/              state.py is the brain, driver.py the hands, engines/ where tasks run
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

# Each public name and the module that it lives in, imported when it is first used: `import treadle` is cheap.
_HOMES = {
    **dict.fromkeys(("Pool", "map"), "pool.pool"),
    **dict.fromkeys(("MapIterator", "Outcome"), "pool.maps"),
    **dict.fromkeys(("PoolStats", "WorkerStats"), "pool.stats"),
    "Decision": "pool.decision",
    "Future": "pool.future",
    "available_cpus": "pool.cpus",
    **dict.fromkeys(
        (
            "TreadleError", "TaskFailure", "RemoteTraceback", "failure", "WorkerDied", "TaskTimeout", "RemoteError",
            "TaskNotPicklable", "TaskNotLoadable", "ResultNotPicklable", "ResultNotLoadable", "PoolClosed",
            "WorkerStartError",
        ),
        "errors",
    ),
}  # fmt: skip

__all__ = [
    "Decision",
    "Future",
    "MapIterator",
    "Outcome",
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
