"""The brain's workers: who there are, in which of their states, and who wants more tasks.

    STARTING --ready--> READY --(retired, nothing assigned)--> STOPPING --ended--> gone
        \\                  \\--(over time, terminated)--> KILLED ---------ended--> gone
         \\--ended--> gone (a failed start)        any --ended--> gone (it died)

Pure, as `state.py` is: it says what has to be done with a worker, and does nothing itself.
"""

from __future__ import annotations

from .._native import _core
from .events import Doze, Instruction, KillWorker, StartWorker, StopWorker, Watch
from .options import PoolOptions
from .task import TIMED_OUT, Task

__all__ = ["GONE", "KILLED", "READY", "STARTING", "STOPPING", "Crew", "Worker"]

IDLE_LOOKS = 4  # a worker that was seen idle so often in one idle time-out leaves

STARTING, READY, STOPPING, KILLED, GONE = "starting", "ready", "stopping", "killed", "gone"


class Worker(_core.WorkerCore):
    """What the brain knows of one worker.  The hot fields are in C, see `_native/pool/worker.h`."""

    __slots__ = ("counted", "doomed", "doom", "watch", "left", "unwanted", "stoppable", "seen", "rests", "recalled")

    def __init__(self, id: int, left: int | None = None, stoppable: bool = False) -> None:
        self.id = id
        self.left = left  # how many more tasks it may be given; None: any number.  Invariant: not negative
        self.stoppable = stoppable  # can it be killed while it runs a task?
        # Cancelled, and still in its inbox or running.  Invariant: those of `assigned` that are DONE.
        self.unwanted: set[int] = set()
        self.last = 0  # the highest sequence number that it was given
        self.seen = 0  # `last` at the last look for idle ones
        self.rests = 0  # looks at which it was idle, and had been given nothing since the one before
        self.state = STARTING
        # Is it one of at most `max_workers`?  Invariant: True until it is STOPPING or GONE.
        self.counted = True
        # Wanted back if they have not started (`Recall`).  Invariant: numbers that it was given.  Those that are not in
        # `assigned` any more are dropped by the next recall.
        self.recalled: set[int] = set()
        # In the order of running.  Invariant: empty unless READY or KILLED; each task in it has worker == id, or is
        # unwanted.
        self.assigned: dict[int, Task] = {}
        # The task that it is killed for.  Invariant: not None only while KILLED.
        self.doomed: int | None = None
        self.doom = TIMED_OUT  # why: how that task is to end
        # Revoked, and still in its inbox.  Invariant: while not empty, nothing is sent to it.
        self.draining: set[int] = set()
        # Seconds of the shortest pending Watch, or None.  Invariant: not None while a task with a time-out is assigned.
        self.watch: float | None = None
        self.waiting = 0  # for how many others it waits.  Invariant: while it does, nothing is sent to it.
        self.retired = False  # takes no more tasks, stops when `assigned` is empty


class Crew(_core.StateCore):
    """The workers of a pool.  What is done for each task, and its fields, are in C: see `_native/pool/dispatch.h`."""

    def __init__(self, workers: int, options: PoolOptions, keep: int, stoppable: bool) -> None:
        self._options = options
        self.keep = keep  # so many workers stay, however idle
        self.stoppable = stoppable  # can new workers be killed while they run a task?
        self._dozing = False  # is an answer to `Doze` outstanding?
        self._wanted = workers
        self.max_workers = workers  # Invariant: at most _wanted; less while more can't be started
        self._lent = 0  # Invariant: the sum of `waiting` over all workers
        self.workers: dict[int, Worker] = {}
        # Workers that want more tasks.  Invariant: exactly those READY, not retired, not draining, holding < _low.
        self._open: dict[int, Worker] = {}
        # A worker below this is given more; between this and the quota it pays to wait, and to send many at once.
        self._low = 1
        self._next_worker = 1
        self._alive = 0  # Invariant: number of workers that are `counted`; never two tasks at once for workers=1
        self._starting = 0  # Invariant: number of workers that are STARTING
        self._start_failures = self._start_kills = 0  # since a worker was last ready
        self.closing = False
        self.restarts = 0

    def _allowed(self) -> int:
        """How many workers there may be now."""
        return self.max_workers + self._lent

    def _has_idle(self) -> bool:
        return any(not w.assigned for w in self._open.values()) or (
            self._alive < self._allowed() and not self._starting
        )

    def _start(self, out: list[Instruction]) -> None:
        worker = Worker(self._next_worker, self._options.max_tasks_per_worker, self.stoppable)
        self._next_worker += 1
        self.workers[worker.id] = worker
        self._alive += 1
        self._starting += 1
        out.append(StartWorker(worker.id))
        if not self._dozing:
            self._doze(out)

    def _review(self, worker: Worker, out: list[Instruction]) -> None:
        """Put the worker where it belongs after its load has changed."""
        if (
            worker.state is READY
            and not worker.assigned
            and not worker.waiting
            and (worker.retired or worker.left == 0 or self._alive > self._allowed())
        ):
            self._move(worker, STOPPING)
            out.append(StopWorker(worker.id))
        elif self._wants(worker):
            self._open[worker.id] = worker
        else:
            self._open.pop(worker.id, None)

    def _wants(self, worker: Worker) -> bool:
        """May it, and should it, be given more tasks now?"""
        if worker.state is not READY or worker.retired or worker.draining or worker.waiting or worker.left == 0:
            return False
        return len(worker.assigned) < self._low

    def _move(self, worker: Worker, state: str) -> None:
        """The one place where a worker's state changes, so that the counts follow."""
        if worker.state is STARTING:
            self._starting -= 1
        if worker.counted and (state is STOPPING or state is GONE):
            worker.counted = False
            self._alive -= 1
        worker.state = state
        if state is not READY:
            self._open.pop(worker.id, None)

    def _retire(self, worker: Worker, out: list[Instruction]) -> None:
        """It takes no more tasks: it leaves now, or when it has done what it holds."""
        if worker.state is STARTING or (worker.state is READY and not worker.assigned):
            self._move(worker, STOPPING)
            out.append(StopWorker(worker.id))
        elif worker.state is READY:
            worker.retired = True
            self._open.pop(worker.id, None)

    def _doom(self, worker: Worker, seq: int, kind: int, out: list[Instruction]) -> None:
        """End the worker, if it (still) runs this task, which ends as `kind` then."""
        self._move(worker, KILLED)
        worker.doomed, worker.doom = seq, kind
        out.append(KillWorker(worker.id, seq))

    def _watch(self, worker: Worker, seconds: float, out: list[Instruction]) -> None:
        if worker.watch is None or seconds < worker.watch:
            worker.watch = seconds
            out.append(Watch(worker.id, seconds))

    def _doze(self, out: list[Instruction]) -> None:
        """See to it that idle workers are looked for, as long as there are any workers."""
        timeout = self._options.idle_timeout
        if timeout is not None and not self._dozing and len(self.workers) > self.keep and not self.closing:
            self._dozing = True
            out.append(Doze(timeout / IDLE_LOOKS))

    def _rest(self, out: list[Instruction]) -> None:
        """The answer to `Doze`: those that have been idle for long leave."""
        self._dozing = False
        for worker in list(self.workers.values()):
            idle = worker.state is READY and not worker.assigned and not worker.waiting and worker.last == worker.seen
            worker.rests = worker.rests + 1 if idle else 0
            worker.seen = worker.last
            # One more look than fits: it has been idle since some time before the first of them.
            if worker.rests > IDLE_LOOKS and self._alive > self.keep:
                self._retire(worker, out)
        self._doze(out)

    def validate(self) -> None:
        """Raise AssertionError unless every invariant of the workers holds."""
        alive = starting = 0
        for worker in self.workers.values():
            assert worker.counted == (worker.state in (STARTING, READY, KILLED)) or worker.state is KILLED
            alive += worker.counted
            starting += worker.state is STARTING
            assert worker.state in (READY, KILLED) or not worker.assigned
            assert worker.doomed is None or worker.state is KILLED
            assert worker.unwanted <= set(worker.assigned)
            assert worker.left is None or worker.left >= 0
            assert not worker.unwanted or worker.state is KILLED or worker.watch is not None
            if worker.draining or worker.retired or worker.state is not READY:
                assert worker.id not in self._open
        assert alive == self._alive, (alive, self._alive)
        assert starting == self._starting, (starting, self._starting)
        assert self._lent == sum(worker.waiting for worker in self.workers.values())
        for id_, worker in self._open.items():
            assert self.workers.get(id_) is worker
            assert self._wants(worker)
