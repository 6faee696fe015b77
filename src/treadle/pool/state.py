"""The pool's brain: events in, instructions out.

There is no thread, no I/O and no clock in this module.  `State.handle(event)` changes the state and returns what has
to be done about it; `driver.py` does it, outside of its lock, and reports back with further events.  So every order of
submit, start, finish, die, time out, cancel and shut down can be tested without a single process.

Who may do what with a worker:

    STARTING --ready--> READY --(retired, nothing assigned)--> STOPPING --ended--> gone
        \\                  \\--(over time, terminated)--> KILLED ---------ended--> gone
         \\--ended--> gone (a failed start)        any --ended--> gone (it died)

A worker is given several short tasks at once (a batch, about `BATCH_SECONDS` of work), so that a short task costs no
round trip.  It runs them in order, one at a time.  Three things keep this honest: the engine knows which one of them is
running (so the blame is exact), the others go back to the queue when the worker dies, and they can be taken back
(`Revoke`) when they wait behind a long one while another worker has nothing to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from .task import ASSIGNED, BROKEN, CANCELLED, DIED, DONE, FAILURES, NEW, QUEUED, TIMED_OUT, Task

BATCH_SECONDS = 0.004  # how much work a worker may hold
BATCH_TASKS = 512  # and how many tasks
OVERHEAD_SECONDS = 4e-6  # what a worker needs for a task beside running it
PREFETCH_BELOW = 0.02  # seconds: a task shorter than this has the next one waiting behind it
STALL_SECONDS = 0.02  # a batch is stuck when its head runs this long while another worker is idle
MAX_START_FAILURES = 3  # workers in a row that end before they are ready: then queued tasks fail
MAX_LOSSES = 5  # workers that end, running nothing, with the same task next in line: then it is taken for the cause

STARTING, READY, STOPPING, KILLED, GONE = "starting", "ready", "stopping", "killed", "gone"


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
    """The answer to `Watch`: what the worker runs now (None: nothing), and for how many seconds."""

    worker: int
    running: int | None
    seconds: float


class Spared(NamedTuple):
    """`KillWorker(seq)` found the worker at something else: it lives.  The rest is as in `Looked`."""

    worker: int
    running: int | None
    seconds: float


class Ended(NamedTuple):
    """A worker is gone; all that it sent has been reported before.  `running` is what it ran when it ended."""

    worker: int
    running: int | None
    exit: Any
    reason: str = ""


class Cancel(NamedTuple):
    """Somebody no longer wants these.  Tasks that are queued end as CANCELLED; the others go on."""

    tasks: list[Task]


class Limit(NamedTuple):
    """From now on: at most `workers` workers, and at most `starts` further tasks given out (None: no limit).

    With `replace`, the workers of today finish what they have and leave.
    """

    workers: int
    starts: int | None = None
    replace: bool = False
    batches: bool = True


class Lend(NamedTuple):
    """A worker waits, in its task or in a callback, for another task (+1), so one more may run; or it goes on (-1)."""

    worker: int
    change: int


class Shutdown(NamedTuple):
    """No more tasks.  `cancel` drops the queued ones, `kill` also ends the running ones."""

    cancel: bool = False
    kill: bool = False


Event = Submit | Ready | Finished | Skipped | Revoked | Looked | Spared | Ended | Cancel | Limit | Lend | Shutdown


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


class Settle(NamedTuple):
    """These tasks have ended: (task, kind, data) of each.  It is said once for every task."""

    ends: list[tuple[Task, int, Any]]


class Close(NamedTuple):
    """Shut down, no task and no worker left: nothing will happen any more."""


Instruction = StartWorker | Send | StopWorker | KillWorker | Revoke | Restore | Watch | Settle | Close


# -- the state --------------------------------------------------------------------------------------------------------


class Worker:
    """What the brain knows of one worker."""

    __slots__ = ("id", "state", "counted", "assigned", "doomed", "draining", "watch", "retired", "waiting")

    def __init__(self, id: int) -> None:
        self.id = id
        self.state = STARTING
        # Is it one of at most `max_workers`?  Invariant: True until it is STOPPING or GONE.
        self.counted = True
        # In the order of running.  Invariant: empty unless READY or KILLED; each task in it has worker == id.
        self.assigned: dict[int, Task] = {}
        # The task that it is killed for.  Invariant: not None only while KILLED.
        self.doomed: int | None = None
        # Revoked, and still in its inbox.  Invariant: while not empty, nothing is sent to it.
        self.draining: set[int] = set()
        # Seconds of the shortest pending Watch, or None.  Invariant: not None while a task with a time-out is assigned.
        self.watch: float | None = None
        self.waiting = 0  # for how many others it waits.  Invariant: while it does, nothing is sent to it.
        self.retired = False  # takes no more tasks, stops when `assigned` is empty


class State:
    """All that the pool has to remember.  Not thread-safe: one caller at a time (the driver's lock sees to it)."""

    def __init__(self, workers: int, starts: int | None = None, batches: bool = True) -> None:
        self._wanted = workers
        self.max_workers = workers  # Invariant: at most _wanted; less while more can't be started
        self._lent = 0  # Invariant: the sum of `waiting` over all workers
        self.starts = starts
        self.batches = batches
        self.workers: dict[int, Worker] = {}
        # Invariant: holds each QUEUED task once; an entry whose task is not QUEUED is dead and is skipped.
        self.queue: deque[Task] = deque()
        self.queued = 0  # Invariant: number of QUEUED tasks
        # Workers that want more tasks.  Invariant: exactly those READY, not retired, not draining, holding < _low.
        self._open: dict[int, Worker] = {}
        self._mean = 0.0  # seconds a task takes, smoothed; 0.0: not known yet
        self._quota = 1  # tasks that a worker may hold
        self._low = 1  # a worker below this is given more; between the two it pays to wait and send many at once
        self._next_seq = 1
        self._next_worker = 1
        self._alive = 0  # Invariant: number of workers that are `counted`; never two tasks at once for workers=1
        self._starting = 0  # Invariant: number of workers that are STARTING
        self._start_failures = 0
        self.closing = False
        self.killing = False
        self.closed = False
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.restarts = 0

    # -- the one entry

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event in; return what has to be done, in order."""
        out: list[Instruction] = []
        _HANDLERS[type(event)](self, event, out)
        return out

    def _submit(self, event: Submit, out: list[Instruction]) -> None:
        if self.killing or self.closed:  # it came when the end had begun
            ends: list[tuple[Task, int, Any]] = []
            for task in event.tasks:
                self._end(task, CANCELLED, None, ends)
            out.append(Settle(ends))
            return
        for task in event.tasks:
            task.state = QUEUED
        self.queue.extend(event.tasks)
        self.queued += len(event.tasks)
        if self._open or self._alive < self._allowed():
            self._assign(out)

    def _ready(self, event: Ready, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not STARTING:
            return
        self._move(worker, READY)
        self._start_failures = 0
        self.max_workers = self._wanted
        self._review(worker, out)
        self._assign(out)

    def _finished(self, event: Finished, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        ends: list[tuple[Task, int, Any]] = []
        pop = worker.assigned.pop
        nanoseconds = 0
        for seq, kind, data, wall, _ in event.results:
            nanoseconds += wall
            task = pop(seq, None)
            if task is None:  # its end was already decided, for instance by a time-out
                continue
            task.worker = None
            if kind in FAILURES and task.attempts <= task.retries and not self.killing:
                self._requeue(task)
                continue
            task.state = DONE
            if kind in FAILURES:
                self.failed += 1
            else:
                self.done += 1
            ends.append((task, kind, data))
        if event.results:
            self._learn(nanoseconds / 1e9 / len(event.results), len(event.results))
        if ends:
            out.append(Settle(ends))
        self._review(worker, out)
        self._assign(out)

    def _skipped(self, event: Skipped, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        for seq in event.seqs:
            task = worker.assigned.pop(seq, None)
            if task is not None:  # it was at the very start when the rest was revoked
                self._unstart(task)
        if worker.draining:
            worker.draining.difference_update(event.seqs)
            if not worker.draining:
                out.append(Restore(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _revoked(self, event: Revoked, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        for seq in sorted((s for s in worker.assigned if s > event.after), reverse=True):
            worker.draining.add(seq)
            self._unstart(worker.assigned.pop(seq))
        if not worker.draining:
            out.append(Restore(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _looked(self, event: Looked, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        worker.watch = None
        task = worker.assigned.get(event.running) if event.running is not None else None
        if task is not None and task.timeout is not None and event.seconds >= task.timeout:
            self._move(worker, KILLED)
            worker.doomed = event.running
            out.append(KillWorker(worker.id, event.running))
            return
        if (
            task is not None
            and len(worker.assigned) > 1
            and not worker.draining
            and event.seconds >= STALL_SECONDS
            and self._has_idle()
        ):
            out.append(Revoke(worker.id))
        # Whatever waits behind the running task can't be over time before its own time-out has passed from now.
        due = [t.timeout for t in worker.assigned.values() if t.timeout is not None and t is not task]
        if task is not None and task.timeout is not None:
            due.append(task.timeout - event.seconds)
        if len(worker.assigned) > 1 and self._has_idle():
            due.append(STALL_SECONDS)
        if due:
            self._watch(worker, min(due), out)

    def _spared(self, event: Spared, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not KILLED or self.killing:
            return
        worker.doomed = None
        self._move(worker, READY)
        self._looked(Looked(*event), out)
        self._review(worker, out)
        self._assign(out)

    def _ended(self, event: Ended, out: list[Instruction]) -> None:
        worker = self.workers.pop(event.worker, None)
        if worker is None:
            return
        before = worker.state
        self._lent -= worker.waiting
        self._move(worker, GONE)
        ends: list[tuple[Task, int, Any]] = []
        back: list[Task] = []
        for seq, task in worker.assigned.items():
            task.worker = None
            if self.killing:
                self._end(task, CANCELLED, None, ends)
            elif seq == event.running or seq == worker.doomed:
                kind = TIMED_OUT if seq == worker.doomed else DIED
                if task.attempts <= task.retries:
                    back.append(task)
                else:
                    self._end(task, kind, event.exit, ends)
            elif event.running is None and not back and self._is_poison(task):
                self._end(task, DIED, event.exit, ends)
            else:
                task.attempts -= 1
                back.append(task)
        worker.assigned.clear()
        for task in reversed(back):
            self._requeue(task)
        if before is STARTING and not self.killing:
            self._start_failures += 1
            if self._start_failures >= MAX_START_FAILURES:
                self._start_failures = 0
                if self._alive:  # go on with those that there are
                    self.max_workers = max(1, min(self.max_workers, self._alive - self._lent))
                while self.queue and not self._alive:
                    task = self.queue.popleft()
                    if task.state == QUEUED:
                        self.queued -= 1
                        self._end(task, BROKEN, event.reason, ends)
        elif before is not STOPPING:
            self.restarts += 1
        if ends:
            out.append(Settle(ends))
        self._assign(out)
        self._maybe_close(out)

    def _is_poison(self, task: Task) -> bool:
        """It was next in line when its worker ended without running anything: perhaps it can't even be received."""
        task.losses += 1
        return task.losses >= MAX_LOSSES

    def _cancel(self, event: Cancel, out: list[Instruction]) -> None:
        ends: list[tuple[Task, int, Any]] = []
        for task in event.tasks:
            if task.state == QUEUED:
                self.queued -= 1
                self._end(task, CANCELLED, None, ends)
            elif task.state == NEW:  # the submit of it was refused, or interrupted
                self._end(task, CANCELLED, None, ends)
        if ends:
            out.append(Settle(ends))
        if len(self.queue) > 64 and len(self.queue) > 4 * self.queued:
            self.queue = deque(t for t in self.queue if t.state == QUEUED)
        self._stop_idle(out)

    def _limit(self, event: Limit, out: list[Instruction]) -> None:
        self.max_workers = self._wanted = event.workers
        self.starts = event.starts
        self.batches = event.batches
        self._quota = self._low = 1
        self._mean = 0.0
        self._reopen()
        if event.replace:
            for worker in list(self.workers.values()):
                self._retire(worker, out)
        self._assign(out)

    def _lend(self, event: Lend, out: list[Instruction]) -> None:
        lender = self.workers.get(event.worker)
        if lender is None:  # it has been given up meanwhile
            return
        lender.waiting += event.change
        self._lent += event.change
        if lender.waiting and lender.assigned:
            out.append(Revoke(lender.id))
        self._review(lender, out)
        self._assign(out)
        for worker in list(self.workers.values()):
            if self._alive <= self._allowed():
                break
            if not worker.assigned and not worker.waiting:
                self._retire(worker, out)

    def _allowed(self) -> int:
        """How many workers there may be now."""
        return self.max_workers + self._lent

    def _shutdown(self, event: Shutdown, out: list[Instruction]) -> None:
        self.closing = True
        if event.cancel or event.kill:
            ends: list[tuple[Task, int, Any]] = []
            for task in self.queue:
                if task.state == QUEUED:
                    self._end(task, CANCELLED, None, ends)
            self.queue.clear()
            self.queued = 0
            if ends:
                out.append(Settle(ends))
        if event.kill and not self.killing:
            self.killing = True
            for worker in self.workers.values():
                worker.doomed = None
                self._move(worker, KILLED)
                out.append(KillWorker(worker.id, None))
        self._assign(out)
        self._stop_idle(out)
        self._maybe_close(out)

    # -- parts of them

    def _assign(self, out: list[Instruction]) -> None:
        """Give queued tasks to workers that have room; start workers for the rest."""
        while self.queued and self._open and self.starts != 0:
            # An even share, so that one worker does not swallow what another could start now.
            share = -(-self.queued // len(self._open))
            worker = min(self._open.values(), key=_load) if len(self._open) > 1 else next(iter(self._open.values()))
            room = min(self._quota - len(worker.assigned), share)
            self._fill(worker, room, out)
        if not self.queued:
            if self._open:
                self._look_for_stalls(out)
            if self.closing:
                self._stop_idle(out)
            return
        while self._alive < self._allowed() and self._starting < self.queued and self.starts != 0:
            worker = Worker(self._next_worker)
            self._next_worker += 1
            self.workers[worker.id] = worker
            self._alive += 1
            self._starting += 1
            out.append(StartWorker(worker.id))

    def _fill(self, worker: Worker, room: int, out: list[Instruction]) -> None:
        batch: list[tuple[int, Task]] = []
        shortest: float | None = None
        while room > 0 and self.queue and self.starts != 0:
            task = self.queue.popleft()
            if task.state != QUEUED:
                continue
            if self.starts is not None:
                self.starts -= 1
            seq = self._next_seq
            self._next_seq = seq + 1
            task.state = ASSIGNED
            task.worker = worker.id
            task.attempts += 1
            worker.assigned[seq] = task
            batch.append((seq, task))
            room -= 1
            if task.timeout is not None and (shortest is None or task.timeout < shortest):
                shortest = task.timeout
        self.queued -= len(batch)
        if batch:
            out.append(Send(worker.id, batch))
        if shortest is not None:
            self._watch(worker, shortest, out)
        if len(worker.assigned) >= self._low:
            self._open.pop(worker.id, None)

    def _watch(self, worker: Worker, seconds: float, out: list[Instruction]) -> None:
        if worker.watch is None or seconds < worker.watch:
            worker.watch = seconds
            out.append(Watch(worker.id, seconds))

    def _has_idle(self) -> bool:
        return any(not w.assigned for w in self._open.values()) or (
            self._alive < self._allowed() and not self._starting
        )

    def _look_for_stalls(self, out: list[Instruction]) -> None:
        """A worker has nothing to do: see to it that no task waits behind a long one elsewhere."""
        if not self._has_idle():
            return
        for worker in self.workers.values():
            if len(worker.assigned) > 1 and worker.state is READY:
                self._watch(worker, STALL_SECONDS, out)

    def _review(self, worker: Worker, out: list[Instruction]) -> None:
        """Put the worker where it belongs after its load has changed."""
        if (
            worker.state is READY
            and not worker.assigned
            and not worker.waiting
            and (worker.retired or self._alive > self._allowed())
        ):
            self._move(worker, STOPPING)
            out.append(StopWorker(worker.id))
        elif self._wants(worker):
            self._open[worker.id] = worker
        else:
            self._open.pop(worker.id, None)

    def _wants(self, worker: Worker) -> bool:
        """May it, and should it, be given more tasks now?"""
        if worker.state is not READY or worker.retired or worker.draining or worker.waiting:
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

    def _stop_idle(self, out: list[Instruction]) -> None:
        """Shutting down with nothing queued: workers leave as they run dry.

        Busy ones are not retired: if a batch turns out stuck behind its head, they may be needed again.
        """
        if self.closing and not self.queued and not self.killing:
            for worker in self.workers.values():
                if not worker.assigned:
                    self._retire(worker, out)

    def _maybe_close(self, out: list[Instruction]) -> None:
        if self.closing and not self.workers and not self.queued and not self.closed:
            self.closed = True
            out.append(Close())

    def _requeue(self, task: Task) -> None:
        """Back to the head of the queue, for another attempt."""
        task.state = QUEUED
        task.worker = None
        self.queue.appendleft(task)
        self.queued += 1
        if self.starts is not None:
            self.starts += 1

    def _unstart(self, task: Task) -> None:
        task.attempts -= 1
        self._requeue(task)

    def _end(self, task: Task, kind: int, data: Any, ends: list[tuple[Task, int, Any]]) -> None:
        task.state = DONE
        task.worker = None
        if kind == CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
        ends.append((task, kind, data))

    def _learn(self, seconds: float, count: int) -> None:
        """Adapt the batch size to how long tasks take."""
        if not self.batches:
            return
        weight = min(0.5, 0.02 * count) if self._mean else 1.0
        self._mean += weight * (seconds - self._mean)
        if seconds > self._mean * 4:  # tasks have become much longer: believe it at once
            self._mean = seconds
        if self._mean >= PREFETCH_BELOW:
            quota = 1
        else:
            quota = min(BATCH_TASKS, max(2, int(BATCH_SECONDS / (self._mean + OVERHEAD_SECONDS))))
        if quota != self._quota:
            self._quota = quota
            self._low = quota if quota <= 2 else quota // 2
            self._reopen()

    def _reopen(self) -> None:
        """The quota has changed: find out anew who wants tasks."""
        self._open = {worker.id: worker for worker in self.workers.values() if self._wants(worker)}

    def stock(self, worker_id: int) -> float:
        """How many seconds of work the worker holds, by experience; 0.0 where nothing is known."""
        worker = self.workers.get(worker_id)
        if worker is None or not self._mean:
            return 0.0
        return len(worker.assigned) * (self._mean + OVERHEAD_SECONDS)

    # -- tests

    def validate(self) -> None:
        """Raise AssertionError unless every invariant holds."""
        live = [t for t in self.queue if t.state == QUEUED]
        assert len(live) == self.queued, (len(live), self.queued)
        assert len({id(t) for t in live}) == len(live), "a task is queued twice"
        seen: set[int] = {id(t) for t in live}
        for t in live:
            assert t.worker is None
        alive = starting = 0
        for worker in self.workers.values():
            assert worker.counted == (worker.state in (STARTING, READY, KILLED)) or worker.state is KILLED
            alive += worker.counted
            starting += worker.state is STARTING
            assert worker.state in (READY, KILLED) or not worker.assigned
            assert worker.doomed is None or worker.state is KILLED
            for seq, task in worker.assigned.items():
                assert 0 < seq < self._next_seq
                assert id(task) not in seen, "a task is in two places"
                seen.add(id(task))
                assert task.state == ASSIGNED and task.worker == worker.id
                assert 1 <= task.attempts <= task.retries + 1, (task.attempts, task.retries)
                assert task.timeout is None or worker.watch is not None or worker.state is KILLED
            if worker.draining or worker.retired or worker.state is not READY:
                assert worker.id not in self._open
        assert alive == self._alive, (alive, self._alive)
        assert starting == self._starting, (starting, self._starting)
        assert self._lent == sum(worker.waiting for worker in self.workers.values())
        for id_, worker in self._open.items():
            assert self.workers.get(id_) is worker
            assert self._wants(worker)
        if self.closed:
            assert not self.workers and not self.queued


def _load(worker: Worker) -> int:
    return len(worker.assigned)


_HANDLERS: dict[type, Any] = {
    Submit: State._submit,
    Ready: State._ready,
    Finished: State._finished,
    Skipped: State._skipped,
    Revoked: State._revoked,
    Looked: State._looked,
    Spared: State._spared,
    Ended: State._ended,
    Cancel: State._cancel,
    Limit: State._limit,
    Lend: State._lend,
    Shutdown: State._shutdown,
}
