"""What the brain is told, and what it says: the vocabulary between `state.py` and `driver.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .task import Task

# -- events -----------------------------------------------------------------------------------------------------------


class Submit(NamedTuple):
    """New tasks, in order."""

    tasks: list[Task]


class Ready(NamedTuple):
    """A worker that was told to start can take tasks."""

    worker: int


# How one attempt ended: sequence number, kind and data as in `task.py`, nanoseconds of wall and of CPU time.
Result = tuple[int, int, Any, int, int]


class Finished(NamedTuple):
    """Attempts that ended by themselves."""

    worker: int
    results: Sequence[Result]


class Yielded(NamedTuple):
    """A task that streams has yielded these, and goes on."""

    worker: int
    seq: int
    items: list[Any]


class Skipped(NamedTuple):
    """The worker passed over these, because they had been revoked."""

    worker: int
    seqs: list[int]


class Revoked(NamedTuple):
    """The answer to `Revoke`: nothing with a sequence number above `after` has started, nor will.

    What lies between the task that runs and `after` is in doubt: each will be reported as finished or as skipped.
    """

    worker: int
    after: int


class Looked(NamedTuple):
    """The answer to `Watch`: what the worker runs now (None: nothing), and for how many seconds.

    `memory` is by how many bytes it has grown since that task began; 0 if the task has no limit.
    """

    worker: int
    running: int | None
    seconds: float
    memory: int = 0


class Spared(NamedTuple):
    """`KillWorker(seq)` found the worker at something else: it lives.  The rest is as in `Looked`."""

    worker: int
    running: int | None
    seconds: float
    memory: int = 0


class Ended(NamedTuple):
    """A worker is gone; all that it sent has been reported before.

    `running` is what it ran when it ended; `reason` says why it never got ready, in words or as a `BadStart`; `killed`:
    something outside has ended it (kill -9, no memory left); `hopeless`: another start would end the same way.
    """

    worker: int
    running: int | None
    exit: Any
    reason: Any = ""
    killed: bool = False
    hopeless: bool = False


class Cancel(NamedTuple):
    """Somebody no longer wants these.  Tasks that are queued, or wait for a retry, end as CANCELLED.

    With `running`, so do those that a worker has, if it is of a kind that can be killed; the others go on.
    """

    tasks: list[Task]
    running: bool = False


class Recall(NamedTuple):
    """Somebody else could run these: those that have not started end as CANCELLED, and the others go on.

    What a worker has in stock has not started: it is taken back.
    """

    tasks: list[Task]


class Judged(NamedTuple):
    """The answer to `Judge`: is what the attempt raised worth another one?  `kind` and `data` are handed back."""

    task: Task
    again: bool
    kind: int
    data: Any


class Due(NamedTuple):
    """The answer to `Delay`: the back-off has passed."""

    task: Task


class Swollen(NamedTuple):
    """Between two tasks, a worker has more memory than `max_memory_per_worker`."""

    worker: int


class Aged(NamedTuple):
    """The answer to `Doze`: so much time has passed."""


class Limit(NamedTuple):
    """From now on: at most `workers` workers, and at most `starts` further tasks given out (None: no limit).

    With `replace`, the workers of today finish what they have and leave.  The rest is as in `State`.
    """

    workers: int
    starts: int | None = None
    replace: bool = False
    batches: bool = True
    keep: int = 0
    stoppable: bool = False


class Warm(NamedTuple):
    """Somebody wants all workers to be there before there is work for them."""


class Renew(NamedTuple):
    """All tasks have ended, and others will come: forget what was learned and counted."""


class Lend(NamedTuple):
    """A worker waits, in its task or in a callback, for another task (+1), so one more may run; or it goes on (-1)."""

    worker: int
    change: int


class Shutdown(NamedTuple):
    """No more tasks.  `cancel` drops the queued ones, `kill` also ends the running ones."""

    cancel: bool = False
    kill: bool = False


Event = (
    Submit
    | Ready
    | Finished
    | Yielded
    | Skipped
    | Revoked
    | Looked
    | Spared
    | Ended
    | Cancel
    | Recall
    | Judged
    | Due
    | Swollen
    | Aged
    | Limit
    | Warm
    | Renew
    | Lend
    | Shutdown
)


# -- instructions -----------------------------------------------------------------------------------------------------


class StartWorker(NamedTuple):
    """Start one; answer with `Ready` or `Ended`."""

    worker: int


class Send(NamedTuple):
    """Give these (sequence number, task) to the worker."""

    worker: int
    batch: list[tuple[int, Task]]


class StopWorker(NamedTuple):
    """It has nothing to do any more: let it leave.  Answer with `Ended`."""

    worker: int


class KillWorker(NamedTuple):
    """End it by force if it (still) runs `seq`; None: whatever it does.

    Answer with `Ended`, or with `Spared` when it had gone on to something else.
    """

    worker: int
    seq: int | None


class Revoke(NamedTuple):
    """Take back what it has not started.  Answer with `Revoked`."""

    worker: int


class Restore(NamedTuple):
    """What was revoked has been passed over; the worker may start what it is sent from now on."""

    worker: int


class Watch(NamedTuple):
    """Look at the worker in so many seconds (or earlier); answer with `Looked`."""

    worker: int
    seconds: float


class Judge(NamedTuple):
    """Ask the task's `retry_on` whether what this attempt ended with is worth another one; answer with `Judged`."""

    task: Task
    kind: int
    data: Any


class Delay(NamedTuple):
    """Wait about so many seconds before the next attempt; answer with `Due`."""

    task: Task
    seconds: float


class Hand(NamedTuple):
    """Give these to the task's sink; the task goes on in that worker."""

    task: Task
    worker: int
    items: list[Any]


class Doze(NamedTuple):
    """Answer with `Aged` in so many seconds."""

    seconds: float


class Settle(NamedTuple):
    """These tasks have ended: (task, kind, data) of each.  It is said once for every task."""

    ends: list[tuple[Task, int, Any]]


class Close(NamedTuple):
    """Shut down, no task and no worker left: nothing will happen any more."""


Instruction = (
    StartWorker
    | Send
    | StopWorker
    | KillWorker
    | Revoke
    | Restore
    | Watch
    | Judge
    | Delay
    | Hand
    | Doze
    | Settle
    | Close
)
