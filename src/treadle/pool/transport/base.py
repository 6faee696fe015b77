"""What a transport has to offer on each side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

# A message: (kind, seq, a, b, payload); what a and b mean depends on the kind.
Frame = tuple[int, int, int, int, bytes]

# From the parent to the worker.
SETUP = 1  # payload: the pickled environment; the first frame of all
FUNCTION = 2  # seq: the function's id; payload: pickled function
FORGET = 3  # seq: the function's id, which will not be used again before it is sent again
TASK = 4  # seq; a: the function's id; b: 1 if `busy.py` is to measure it; payload: pickled arguments
STOP = 5  # nothing follows: leave

# From the worker to the parent.
READY = 6  # seq: pid
RETURNED = 7  # seq; a: nanoseconds, b: of CPU time (0: not measured, see busy.py); payload: pickled value
RAISED = 8  # the same; payload: failures.pack
SKIPPED = 9  # seq


class Channel(Protocol):
    """The parent's end.  `send` may be called by any thread; `receive` only by the reactor's."""

    @property
    def remote_fds(self) -> tuple[int, ...]:
        """The descriptors that the worker needs, in the order in which its `Port` takes them."""

    def close_remote(self) -> None:
        """The worker has its descriptors: close our copies of them."""

    def send(self, frames: Sequence[Frame]) -> None:
        """Never blocks: what the worker can't take yet is kept and sent later.  After its death: does nothing."""

    def receive(self) -> list[Frame]:
        """What has arrived, without waiting."""

    def close(self) -> None:
        """Give everything back.  Idempotent."""


class Port(Protocol):
    """The worker's end, used by its main thread alone."""

    def receive(self) -> Iterable[Frame] | None:
        """Wait for frames; None when the parent is gone."""

    def send(self, kind: int, seq: int, a: int, b: int, payload: bytes) -> None:
        """Block until it is on its way.  Raises BrokenPipeError when the parent is gone."""
