"""Drop-in for the standard library's `queue`: the same names and contract, several times faster.

Beyond it: `shutdown` on every Python, `put_many`, `get_many`, ``for item in queue``, and `aget`/`aput`/``async for`` on
the same object, so that a queue joins threads and an event loop.
"""

from __future__ import annotations

from treadle.queues.local import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]
