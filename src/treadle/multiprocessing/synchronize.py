"""`multiprocessing.synchronize`: with our primitives."""

from __future__ import annotations

from multiprocessing import synchronize as _stdlib

from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

from .faces import stand_in_for

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

stand_in_for(__name__, _stdlib)
