"""The small interface between the pool and whatever runs its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..failures import Exit
from ..state import Result
from ..task import Call, Task

# What an engine remembers of a function from one call to the next; None: nothing.
Memo = dict[str, Any] | None


class Look(NamedTuple):
    """What a worker is doing: the sequence number that it runs (None: nothing), and for how many seconds."""

    running: int | None
    seconds: float


class Listener(Protocol):
    """Whom an engine reports to.  Every method may be called from any thread, without any lock of the engine held."""

    def ready(self, worker: int) -> None:
        """It can take tasks."""

    def finished(self, worker: int, results: Sequence[Result]) -> None:
        """Attempts that ended by themselves."""

    def skipped(self, worker: int, seqs: list[int]) -> None:
        """Revoked tasks that the worker has passed over."""

    def spared(self, worker: int, look: Look) -> None:
        """`kill(worker, seq)` came too late: it does this now."""

    def ended(self, worker: int, running: int | None, exit: Exit, reason: str) -> None:
        """It is gone.  All its results have been reported before."""


class Engine(Protocol):
    """Runs tasks on numbered workers.  The pool numbers them, and decides which worker gets what.

    An engine never blocks in any of these for longer than a system call takes, except in `close`.
    """

    @property
    def name(self) -> str:
        """``"threads"``, ``"processes"``..."""

    @property
    def batches(self) -> bool:
        """May a worker be given tasks to keep in stock?"""

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        """Prepare a call, in the thread of whoever submits it.  Raises `TaskNotPicklable`.

        `memo` is a dict that the engine may use to remember the function by, when many calls are made with the same
        one: a map pickles its function once.
        """

    def default_workers(self) -> int:
        """How many workers are sensible when nobody says."""

    def start(self, worker: int) -> None:
        """Start a worker; `ready` or `ended` follows."""

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        """Hand tasks over.  If the worker is gone already, they are dropped: its end has been or will be reported."""

    def stop(self, worker: int) -> None:
        """Let an idle worker leave; `ended` follows."""

    def kill(self, worker: int, seq: int | None) -> None:
        """End it by force, if it still runs `seq` (None: whatever it runs); `ended` or `spared` follows."""

    def look(self, worker: int) -> Look:
        """What does it do now?"""

    def revoke(self, worker: int) -> int:
        """Let it start nothing more.  Returns the highest sequence number that may have started."""

    def restore(self, worker: int) -> None:
        """It may start again what it is sent."""

    def pid(self, worker: int) -> int | None:
        """The process that it runs in, or None while unknown."""

    def current_worker(self) -> int | None:
        """Which of the workers is the calling thread?  None: none of them."""

    def close(self) -> None:
        """End everything by force and give all back.  Idempotent; safe after any error."""

    def after_fork(self) -> None:
        """In a forked child: nothing here is ours; give descriptors back, kill nobody."""
