"""`multiprocessing.queues`: with our queues."""

from __future__ import annotations

from multiprocessing import queues as _stdlib

from treadle.queues.shared import JoinableQueue, Queue, SimpleQueue

from .faces import stand_in_for

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

stand_in_for(__name__, _stdlib)
