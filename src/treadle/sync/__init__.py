"""Locks and what is built of them: one noun a file.

Lock, RLock, Condition, Semaphore, BoundedSemaphore and Event are in C (`treadle._native`).  Here are the rest, and the
words that a deadlock is reported in.
"""

from __future__ import annotations

from treadle._native import _core
from treadle._native._core import BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
from treadle.errors import Interrupted
from treadle.sync.barrier import Barrier, BrokenBarrierError
from treadle.sync.deadlock import deadlock_mode, install
from treadle.sync.iterators import concurrent_tee, serialize_iterator, synchronized_iterator
from treadle.sync.rwlock import RWLock
from treadle.sync.thread import Thread, Timer, surface

__all__ = [
    "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "BrokenBarrierError", "RWLock",
    "Thread", "Timer", "serialize_iterator", "synchronized_iterator", "concurrent_tee", "deadlock_mode",
]  # fmt: skip

install()
_core.hook("interrupted", Interrupted)
_core.hook("surface", surface)
