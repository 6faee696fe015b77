"""The small interface between the pool and whatever runs its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..._native import _core
from ..events import Result
from ..failures import BadStart, Exit
from ..options import PoolOptions, TaskOptions
from ..task import Call, Task

# What an engine remembers of a function from one call to the next; None: nothing.
Memo = dict[str, Any] | None


class Look(NamedTuple):
    """What a worker is doing: the sequence number that it runs (None: nothing), and for how many seconds."""

    running: int | None
    seconds: float
    memory: int = 0  # by how many bytes it has grown since that task began; 0 if the task has no limit


class Listener(Protocol):
    """Whom an engine reports to.  Every method may be called from any thread, without any lock of the engine held."""

    @property
    def plate(self) -> int:
        """The pool's record on the board, 0 if it has none."""

    def ready(self, worker: int) -> None:
        """It can take tasks."""

    def shortcut(self, worker: int) -> tuple[Any, Any, Any] | None:
        """The driver's lock, its brain, and this worker there, for `_core.Seat.run`; None: it is gone."""

    def finished(self, worker: int, results: Sequence[Result]) -> None:
        """Attempts that ended by themselves."""

    def yielded(self, worker: int, seq: int, items: list[Any]) -> None:
        """Packed items of a task that streams.  Only in the reactor's thread."""

    def skipped(self, worker: int, seqs: list[int]) -> None:
        """Revoked tasks that the worker has passed over."""

    def spared(self, worker: int, look: Look) -> None:
        """`kill(worker, seq)` came too late: it does this now."""

    def swollen(self, worker: int) -> None:
        """Between two tasks, it has more memory than `max_memory_per_worker`."""

    def ended(self, worker: int, running: int | None, exit: Exit, reason: str | BadStart) -> None:
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

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        """After the first call of a map: what its other calls have in common, if that is enough for `_core.feed`.

        Their `function`, `context` and `variables`, whether their arguments are pickled, and whether several of them
        may go as a run.
        """

    def default_workers(self) -> int:
        """How many workers are sensible when nobody says."""

    @property
    def keep(self) -> int:
        """So many workers are to stay, however idle."""

    @property
    def stoppable(self) -> bool:
        """Can a worker be killed while it runs a task?"""

    def configure(self, options: PoolOptions) -> None:
        """Called once, before anything else, if they are not `PLAIN`.

        Each worker calls the initializer first, and is ready when that has returned.  Raises `TaskNotPicklable`, and
        ValueError for what it can't keep.
        """

    def accept(self, options: TaskOptions) -> None:
        """Called before tasks are made with other options than `DEFAULT`.  Raises ValueError for what it can't keep."""

    def renew(self) -> None:
        """All tasks have ended, and what comes now may be of another kind."""

    def prepare(self) -> None:
        """Called before each submit, in the thread that submits: get what could not be had later.

        Raises OSError or RuntimeError.
        """

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

    def pause(self, worker: int) -> None:
        """Take in nothing that it has to say, until `resume`: it waits then, when it has no room left to say more.

        This, and `resume`, are called in the reactor's thread.
        """

    def resume(self, worker: int) -> None:
        """Take it in again."""

    def pid(self, worker: int) -> int | None:
        """The process that it runs in, or None while unknown."""

    def lane(self, worker: int) -> _core.Lane | _core.Seat | None:
        """Where a task for a worker that is ready may be put into by whoever submits it.  None: nowhere."""

    def current_worker(self) -> int | None:
        """Which of the workers is the calling thread?  None: none of them."""

    def close(self) -> None:
        """End everything by force and give all back.  Idempotent; safe after any error."""

    def after_fork(self) -> None:
        """In a forked child: nothing here is ours; give descriptors back, kill nobody."""
