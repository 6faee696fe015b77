"""Drop-in for the standard library's `queue`: the same names and contract, several times faster.

Beyond it: `shutdown` on every Python, `put_many`, `get_many`, ``for item in queue``, and `aget`/`aput`/``async for`` on
the same object, so that a queue joins threads and an event loop.
"""

from __future__ import annotations

import queue as _stdlib
from typing import Any as _Any

from treadle.queues.local import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]


def __getattr__(name: str) -> _Any:  # what the standard library's module has, and does not say that it has
    return getattr(_stdlib, name)
