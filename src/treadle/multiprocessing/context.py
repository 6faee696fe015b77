"""`multiprocessing.context`, with our contexts and processes."""

from __future__ import annotations

from multiprocessing import context as _stdlib

from .contexts import DefaultContext, ForkContext, ForkServerContext, SpawnContext
from .faces import stand_in_for
from .processes import ForkProcess, ForkServerProcess, Process, SpawnProcess

__all__ = [
    "DefaultContext", "ForkContext", "ForkServerContext", "SpawnContext", "Process", "ForkProcess",
    "ForkServerProcess", "SpawnProcess",
]  # fmt: skip

stand_in_for(__name__, _stdlib)
