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
from collections.abc import Iterable, Iterator
from typing import Any

from .._native import _core
from .events import (
    Aged,
    Cancel,
    Close,
    Delay,
    Doze,
    Due,
    Ended,
    Event,
    Finished,
    Hand,
    Instruction,
    Judge,
    Judged,
    KillWorker,
    Lend,
    Limit,
    Looked,
    Ready,
    Renew,
    Restore,
    Revoke,
    Revoked,
    Send,
    Settle,
    Shutdown,
    Skipped,
    Spared,
    StartWorker,
    StopWorker,
    Submit,
    Swollen,
    Warm,
    Watch,
    Yielded,
)
from .options import PLAIN, PoolOptions
from .ranks import Ranks
from .task import ASSIGNED, BROKEN, CANCELLED, DIED, DONE, NEW, OVER_MEMORY, PART, QUEUED, TIMED_OUT, WAITING, Task

BATCH_SECONDS = 0.004  # how much work a worker may hold
BATCH_TASKS = 512  # and how many tasks
OVERHEAD_SECONDS = 4e-6  # what a worker needs for a task beside running it
PREFETCH_BELOW = 0.02  # seconds: a task shorter than this has the next one waiting behind it
STALL_SECONDS = 0.02  # a batch is stuck when its head runs this long while another worker is idle
MAX_START_FAILURES = 3  # workers in a row that end before they are ready: then queued tasks fail
MAX_START_KILLS = 12  # the same for workers that something kills: it may have been after others too, and be gone soon
STOP_SECONDS = 0.005  # how soon to look again at a worker that may have begun a task that was cancelled
MEMORY_SECONDS = 0.05  # how often to look at the memory of a task that has a limit
IDLE_LOOKS = 4  # a worker that was seen idle so often in one idle time-out leaves
MAX_LOSSES = 5  # workers that end, running nothing, with the same task next in line: then it is taken for the cause

STARTING, READY, STOPPING, KILLED, GONE = "starting", "ready", "stopping", "killed", "gone"


# -- the state --------------------------------------------------------------------------------------------------------


class Worker(_core.WorkerCore):
    """What the brain knows of one worker.  The hot fields are in C, see `_native/dispatch.h`."""

    __slots__ = ("counted", "doomed", "doom", "watch", "left", "unwanted", "stoppable", "seen", "rests")

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


class State(_core.StateCore):
    """All that the pool has to remember.  Not thread-safe: one caller at a time (the driver's lock sees to it).

    What is done for each task is done in C, see `_native/dispatch.h`; the rules are here.
    """

    def __init__(
        self,
        workers: int,
        starts: int | None = None,
        batches: bool = True,
        options: PoolOptions = PLAIN,
        keep: int = 0,
        stoppable: bool = False,
    ) -> None:
        self._options = options
        self.keep = keep  # so many workers stay, however idle
        self.stoppable = stoppable  # can new workers be killed while they run a task?
        # Failed, with another attempt in sight.  Invariant: exactly the tasks that are WAITING.
        self.waiting = set()
        self._dozing = False  # is an answer to `Doze` outstanding?
        self._wanted = workers
        self.max_workers = workers  # Invariant: at most _wanted; less while more can't be started
        self._lent = 0  # Invariant: the sum of `waiting` over all workers
        self.starts = starts
        self.batches = batches
        self.workers: dict[int, Worker] = {}
        # Invariant: holds each QUEUED task once; an entry whose task is not QUEUED is dead and is skipped.
        # A plain deque until the first task with a priority comes.
        self.queue: deque[Task] | Ranks = deque()
        self.queued = 0  # Invariant: number of QUEUED tasks
        # Workers that want more tasks.  Invariant: exactly those READY, not retired, not draining, holding < _low.
        self._open: dict[int, Worker] = {}
        self._mean = 0.0  # seconds a task takes, smoothed; 0.0: not known yet
        self._unlearned: tuple[int, float] = 0, 0.0  # nanoseconds and number of tasks that `_mean` does not have so far
        self.pace = 0.0  # seconds that an item takes, a task or one of a run, of late; 0.0: not known yet
        self._timeless = 0  # items that have ended since `pace` was last told a time
        self._quota = 1  # tasks that a worker may hold
        self.stock_seconds = BATCH_SECONDS  # how much work a worker may hold
        self.least_stock = 1  # and how many tasks, however long they take
        self._low = 1  # a worker below this is given more; between the two it pays to wait and send many at once
        self._next_seq = 1
        self._next_worker = 1
        self._alive = 0  # Invariant: number of workers that are `counted`; never two tasks at once for workers=1
        self._starting = 0  # Invariant: number of workers that are STARTING
        self._start_failures = self._start_kills = 0  # since a worker was last ready
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
        if self._unlearned_count:
            count, nanoseconds = self._unlearned_count, self._unlearned_time
            self._unlearned_count = self._unlearned_time = 0
            self._learn(nanoseconds / 1e9 / count, count)
        _HANDLERS[type(event)](self, event, out)
        self._express, self._direct, self._saturated = self._shortcuts()
        return out

    def _shortcuts(self) -> tuple[bool, bool, bool]:
        """May a worker whose only task has returned simply have the next one?  May a new task simply join the queue?

        And between these: may an idle worker simply have a new task, and be idle again when that has returned?
        Invariant: while the first holds, `_finished` with one value of such a worker would do nothing else; while the
        last does, `_submit` of a task without options would do nothing else; while the second does, nothing is queued
        and no worker has several tasks, neither of them would do anything else for a worker with none or one.
        """
        if self.killing or self.starts is not None or type(self.queue) is not deque:
            return False, False, False
        plain = self._alive <= self._allowed() and self._options.max_tasks_per_worker is None
        saturated = not self._open and self._alive >= self._allowed() and not self.closing
        return plain and not self.batches and not self._open, plain and not self.closing, saturated

    def _submit(self, event: Submit, out: list[Instruction]) -> None:
        if self.killing or self.closed:  # it came when the end had begun
            ends: list[tuple[Task, int, Any]] = []
            for task in event.tasks:
                if task.state == NEW:
                    self._end(task, CANCELLED, None, ends)
            out.append(Settle(ends))
            return
        optioned = self._enqueue(event.tasks)
        if optioned and type(self.queue) is deque and any(task.options.priority for task in event.tasks):
            self.queue = Ranks(self.queue)
        if self._open or self._alive < self._allowed():
            self._assign(out)

    def _ready(self, event: Ready, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        # It was told to leave before it was there: another thread may have been faster than the one that started it.
        if worker.state is STOPPING:
            out.append(StopWorker(worker.id))
        elif worker.state is KILLED:
            out.append(KillWorker(worker.id, worker.doomed))
        if worker.state is not STARTING:
            return
        self._move(worker, READY)
        self._start_failures = self._start_kills = 0
        self.max_workers = self._wanted
        self._review(worker, out)
        self._assign(out)

    def _finished(self, event: Finished, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        if worker.unwanted:
            for result in event.results:
                self._forget_result(worker, result)
        ends: list[tuple[Task, int, Any]] = []
        # What returned is done; what failed may have attempts left.  Of some the end was already decided.
        before = self.done
        nanoseconds, failures, count = self._finish(worker, event.results, ends)
        self._pace(nanoseconds, self.done - before + len(failures or ()))
        for task, kind, data in failures or ():
            if kind == PART:  # one item of a run
                self.failed += 1
                ends.append((task, kind, data))
                continue
            if task.attempts <= task.options.retries and not self.killing:
                self._retry(task, kind, data, out)
                continue
            task.state = DONE
            self.failed += 1
            ends.append((task, kind, data))
        self._unlearned = spent, ended = self._unlearned[0] + nanoseconds, self._unlearned[1] + count
        if ended >= 1.0:  # of a run there may have been a few items only
            self._unlearned = 0, 0.0
            self._learn(spent / 1e9 / ended, int(ended))
        if ends:
            out.append(Settle(ends))
        self._review(worker, out)
        self._assign(out)

    def _yielded(self, event: Yielded, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        task = worker.assigned.get(event.seq) if worker is not None else None
        if worker is None or task is None or event.seq in worker.unwanted:
            return
        task.more = True
        out.append(Hand(task, event.worker, event.items))

    def _skipped(self, event: Skipped, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or self.killing:  # then its end, which is near, is also that of its tasks
            return
        for seq in event.seqs:
            if self._forget(worker, seq):
                continue
            task = _holder(worker, seq)
            if task is None:
                continue
            # It was at the very start when the rest was revoked.
            if task.cut:
                worker.draining.discard(task.first + task.count)
            if task.run and self._forget(worker, task.first):
                continue
            if task.run:
                worker.assigned.pop(task.first)
                self._leave_rest(worker, task, task.done)
            else:
                self._unstart(worker, worker.assigned.pop(seq))
        if worker.draining:
            worker.draining.difference_update(event.seqs)
            if not worker.draining:
                out.append(Restore(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _revoked(self, event: Revoked, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        # One that is to be killed may be spared: then it must not be left with what it can't start.
        if worker is None or worker.state not in (READY, KILLED) or self.killing:
            return
        for seq in sorted((s for s in worker.assigned if s > event.after), reverse=True):
            worker.draining.add(seq)
            if not self._forget(worker, seq):
                self._unstart(worker, worker.assigned.pop(seq))
        task = _holder(worker, event.after)
        if task is not None and event.after < task.first + task.count - 1:
            self._cut(worker, task, event.after)
        if not worker.draining:
            out.append(Restore(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _cut(self, worker: Worker, run: Task, after: int) -> None:
        """The worker goes on with a run up to that number; the rest is for others."""
        worker.draining.add(after + 1)
        rest = run.split(after - run.first + 1)
        run.cut = True
        if run.first in worker.unwanted:
            rest.state = DONE  # for whoever waits it has ended already
        else:
            self._requeue(rest)
        if run.done == run.count:
            del worker.assigned[run.first]
            worker.unwanted.discard(run.first)
            run.state, run.worker = DONE, None

    def _leave_rest(self, worker: Worker, run: Task, count: int) -> Task | None:
        """So many items of a run have ended, and its worker does no more of it: the others go back to the queue."""
        if count == 0:
            self._unstart(worker, run)
            return run
        rest = run.split(count) if count < run.count else None
        run.state, run.worker = DONE, None
        if rest is not None:
            self._requeue(rest)
        return rest

    def _looked(self, event: Looked, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        worker.watch = None
        task = _holder(worker, event.running) if event.running is not None else None
        if task is not None and event.running is not None:
            options = task.options
            if (task.first if task.run else event.running) in worker.unwanted:
                self._doom(worker, event.running, CANCELLED, out)
                return
            if options.timeout is not None and event.seconds >= options.timeout:
                self._doom(worker, event.running, TIMED_OUT, out)
                return
            if options.memory_limit is not None and event.memory > options.memory_limit:
                self._doom(worker, event.running, OVER_MEMORY, out)
                return
        if (
            task is not None
            and _has_behind(worker)
            and not worker.draining
            and event.seconds >= STALL_SECONDS
            and self._has_idle()
        ):
            out.append(Revoke(worker.id))
        # Whatever waits behind the running task can't be over time before its own time-out has passed from now.
        due = [t.options.timeout for t in worker.assigned.values() if t.options.timeout is not None and t is not task]
        if task is not None and task.options.timeout is not None:
            due.append(task.options.timeout - event.seconds)
        if _has_behind(worker) and self._has_idle():
            due.append(STALL_SECONDS)
        if any(t.options.memory_limit is not None for t in worker.assigned.values()):
            due.append(MEMORY_SECONDS)
        if worker.unwanted:
            if not worker.draining and any(seq != event.running for seq in worker.unwanted):
                out.append(Revoke(worker.id))
            due.append(STOP_SECONDS)
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
            if seq in worker.unwanted:
                continue
            task.worker = None
            if self.killing:
                self._end(task, CANCELLED, None, ends)
            elif task.run:
                self._lost_run(task, event, back, ends)
            elif (
                seq == event.running
                or seq == worker.doomed
                or (event.running is None and not back and self._is_poison(task))
            ):
                kind = worker.doom if seq == worker.doomed else DIED
                if task.attempts > task.options.retries:
                    self._end(task, kind, event.exit, ends)
                elif task.options.backoff or task.options.retry_on is not None or task.more:
                    self._retry(task, kind, event.exit, out)
                else:
                    back.append(task)
            else:
                task.attempts -= 1
                back.append(task)
        worker.assigned.clear()
        worker.unwanted.clear()
        for task in reversed(back):
            self._requeue(task)
        if before is STARTING and not self.killing:
            self._start_failures += not event.killed
            self._start_kills += event.killed
            if (
                self._start_failures >= MAX_START_FAILURES
                or self._start_kills >= MAX_START_KILLS
                or (event.hopeless and not self._alive)
            ):
                self._start_failures = self._start_kills = 0
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

    def _lost_run(self, run: Task, event: Ended, back: list[Task], ends: list[tuple[Task, int, Any]]) -> None:
        """Its worker is gone: what has ended has ended, the item that was running is to blame, the others move on."""
        at = run.done
        if run.first + at == event.running or (event.running is None and not back and self._is_poison(run)):
            ends.append((run, PART, run.ended(DIED, event.exit, 1)))
            self.failed += 1
            at += 1
        if at == 0:
            run.attempts -= 1
            back.append(run)
            return
        if at < run.count:
            back.append(run.split(at))
        run.state = DONE

    def _is_poison(self, task: Task) -> bool:
        """It was next in line when its worker ended without running anything: perhaps it can't even be received."""
        task.losses += 1
        if task.losses < MAX_LOSSES:
            return False
        task.losses = 0  # that was one attempt
        return True

    def _cancel(self, event: Cancel, out: list[Instruction]) -> None:
        ends: list[tuple[Task, int, Any]] = []
        for task in _with_rests(event.tasks):
            if task.state == QUEUED:
                self.queued -= 1
                self._end(task, CANCELLED, None, ends)
            elif task.state == NEW:  # the submit of it was refused, or interrupted
                self._end(task, CANCELLED, None, ends)
            elif task.state == WAITING:
                self.waiting.discard(task)
                self._end(task, CANCELLED, None, ends)
            elif task.state == ASSIGNED and event.running:
                self._cancel_assigned(task, ends, out)
        if ends:
            out.append(Settle(ends))
        if len(self.queue) > 64 and len(self.queue) > 4 * self.queued:
            live = [t for t in self.queue if t.state == QUEUED]
            self.queue.clear()
            self.queue.extend(live)
        self._stop_idle(out)
        self._maybe_close(out)

    def _cancel_assigned(self, task: Task, ends: list[tuple[Task, int, Any]], out: list[Instruction]) -> None:
        """A worker has it.  For whoever waits it has ended now; the worker must be stopped, or not begin with it."""
        assert task.worker is not None
        worker = self.workers[task.worker]
        if not worker.stoppable:
            return
        self._end(task, CANCELLED, None, ends)
        first = next(iter(worker.assigned))
        seq = next(seq for seq, each in worker.assigned.items() if each is task)
        worker.unwanted.add(seq)
        if worker.state is not READY:  # it is being killed; should it be spared, it is looked at
            return
        if seq == first and not task.run:  # (of a run it may be at the next item by then: first take back the others)
            self._doom(worker, seq, CANCELLED, out)
            return
        if not worker.draining:
            out.append(Revoke(worker.id))
        self._watch(worker, STOP_SECONDS, out)

    def _forget(self, worker: Worker, seq: int) -> bool:
        """Was it unwanted?  Then it is known no more."""
        if seq not in worker.unwanted:
            return False
        worker.unwanted.discard(seq)
        del worker.assigned[seq]
        return True

    def _forget_result(self, worker: Worker, result: Any) -> None:
        """The same for what a worker has said; of a run, when that was its last item."""
        task = _holder(worker, result[0])
        if task is None or not task.run:
            self._forget(worker, result[0])
        elif task.first in worker.unwanted:
            task.done = min(task.count, task.done + (len(result[2]) if result[1] == PART else 1))
            if task.done == task.count:
                self._forget(worker, task.first)

    def _doom(self, worker: Worker, seq: int, kind: int, out: list[Instruction]) -> None:
        """End the worker, if it (still) runs this task, which ends as `kind` then."""
        self._move(worker, KILLED)
        worker.doomed, worker.doom = seq, kind
        out.append(KillWorker(worker.id, seq))

    # -- retries

    def _retry(self, task: Task, kind: int, data: Any, out: list[Instruction]) -> None:
        """An attempt has failed and there are some left."""
        if task.more:  # somebody has what it yielded before: a repetition would come twice
            ends: list[tuple[Task, int, Any]] = []
            self._end(task, kind, data, ends)
            out.append(Settle(ends))
            return
        if task.options.retry_on is not None:
            self._park(task)
            out.append(Judge(task, kind, data))
        else:
            self._again(task, out)

    def _again(self, task: Task, out: list[Instruction]) -> None:
        seconds = task.options.pause(task.attempts)
        if seconds:
            self._park(task)
            out.append(Delay(task, seconds))
        else:
            self._requeue(task)

    def _park(self, task: Task) -> None:
        task.state = WAITING
        task.worker = None
        self.waiting.add(task)

    def _judged(self, event: Judged, out: list[Instruction]) -> None:
        task = event.task
        if task.state != WAITING:  # it was cancelled meanwhile
            return
        self.waiting.discard(task)
        if event.again:
            self._again(task, out)
        else:
            ends: list[tuple[Task, int, Any]] = []
            self._end(task, event.kind, event.data, ends)
            out.append(Settle(ends))
        self._go_on(out)

    def _due(self, event: Due, out: list[Instruction]) -> None:
        task = event.task
        if task.state != WAITING:
            return
        self.waiting.discard(task)
        self._requeue(task)
        self._go_on(out)

    def _go_on(self, out: list[Instruction]) -> None:
        self._assign(out)
        self._stop_idle(out)
        self._maybe_close(out)

    # -- workers that leave

    def _swollen(self, event: Swollen, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        if len(worker.assigned) > 1 and not worker.draining:
            out.append(Revoke(worker.id))
        self._retire(worker, out)
        self._assign(out)

    def _doze(self, out: list[Instruction]) -> None:
        """See to it that idle workers are looked for, as long as there are any workers."""
        timeout = self._options.idle_timeout
        if timeout is not None and not self._dozing and len(self.workers) > self.keep and not self.closing:
            self._dozing = True
            out.append(Doze(timeout / IDLE_LOOKS))

    def _aged(self, event: Aged, out: list[Instruction]) -> None:
        self._dozing = False
        for worker in list(self.workers.values()):
            idle = worker.state is READY and not worker.assigned and not worker.waiting and worker.last == worker.seen
            worker.rests = worker.rests + 1 if idle else 0
            worker.seen = worker.last
            # One more look than fits: it has been idle since some time before the first of them.
            if worker.rests > IDLE_LOOKS and self._alive > self.keep:
                self._retire(worker, out)
        self._doze(out)

    def _limit(self, event: Limit, out: list[Instruction]) -> None:
        self.max_workers = self._wanted = event.workers
        self.starts = event.starts
        self.batches = event.batches
        self.keep = event.keep
        self.stoppable = event.stoppable
        self._quota = self._low = 1
        self._mean = self.pace = 0.0
        self._unlearned = 0, 0.0
        self._reopen()
        if event.replace:
            for worker in list(self.workers.values()):
                self._retire(worker, out)
        self._assign(out)

    def _warm(self, event: Warm, out: list[Instruction]) -> None:
        while not self.closing and self._alive < self._allowed():
            self._start(out)

    def _renew(self, event: Renew, out: list[Instruction]) -> None:
        self.done = self.failed = self.cancelled = self.restarts = 0
        self._quota = self._low = 1
        self._mean = self.pace = 0.0
        self._unlearned = 0, 0.0
        self._reopen()

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
            for task in self.waiting:
                self._end(task, CANCELLED, None, ends)
            self.waiting.clear()
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
            self._start(out)

    def _start(self, out: list[Instruction]) -> None:
        worker = Worker(self._next_worker, self._options.max_tasks_per_worker, self.stoppable)
        self._next_worker += 1
        self.workers[worker.id] = worker
        self._alive += 1
        self._starting += 1
        out.append(StartWorker(worker.id))
        if not self._dozing:
            self._doze(out)

    def _fill(self, worker: Worker, room: int, out: list[Instruction]) -> None:
        if worker.left is not None:
            room = min(room, worker.left)
        if self.starts is not None:
            room = min(room, self.starts)
        batch, optioned = self._take(worker, room)
        if self.starts is not None:
            self.starts -= len(batch)
        shortest: float | None = None
        if optioned:
            shortest = min((s for _, task in batch if (s := _look_after(task)) is not None), default=None)
        if batch:
            if worker.left is not None:
                worker.left -= len(batch)
            out.append(Send(worker.id, batch))
        if shortest is not None:
            self._watch(worker, shortest, out)
        if len(worker.assigned) >= self._low or worker.left == 0:
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
            if worker.state is READY and _has_behind(worker):
                self._watch(worker, STALL_SECONDS, out)

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

    def _stop_idle(self, out: list[Instruction]) -> None:
        """Shutting down with nothing queued: workers leave as they run dry.

        Busy ones are not retired: if a batch turns out stuck behind its head, they may be needed again.
        """
        if self.closing and not self.queued and not self.killing and not self.waiting:
            for worker in self.workers.values():
                if not worker.assigned:
                    self._retire(worker, out)

    def _maybe_close(self, out: list[Instruction]) -> None:
        if self.closing and not self.workers and not self.queued and not self.waiting and not self.closed:
            self.closed = True
            out.append(Close())

    def _requeue(self, task: Task) -> None:
        """Back to the head of the queue, for another attempt."""
        task.state = QUEUED
        task.cut = False
        task.worker = None
        self.queue.appendleft(task)
        self.queued += 1
        if self.starts is not None:
            self.starts += 1

    def _unstart(self, worker: Worker, task: Task) -> None:
        if worker.left is not None:
            worker.left += 1
        task.attempts -= 1
        self._requeue(task)

    def _end(self, task: Task, kind: int, data: Any, ends: list[tuple[Task, int, Any]]) -> None:
        task.state = DONE
        task.worker = None
        count = task.count - task.done
        if kind == CANCELLED:
            self.cancelled += count
        else:
            self.failed += count
        ends.append((task, PART, task.ended(kind, data, count)) if task.run else (task, kind, data))

    def _pace(self, nanoseconds: int, items: int) -> None:
        self._timeless += items
        if nanoseconds and self._timeless:  # of a run the time of several items is told with the last of them
            each = nanoseconds / 1e9 / self._timeless
            self._timeless = 0
            # By so much at most: a worker that had to wait for a CPU in between tells nothing.
            self.pace = min(max(each, self.pace / 2), self.pace * 1.5) if self.pace else each

    def _learn(self, seconds: float, count: int) -> None:
        """Adapt the batch size to how long tasks take."""
        if not self.batches:
            return
        weight = min(0.5, 0.02 * count) if self._mean else 1.0
        self._mean += weight * (seconds - self._mean)
        if seconds > self._mean * 4:  # tasks have become much longer: believe it at once
            self._mean = seconds
        if self._mean >= PREFETCH_BELOW:
            quota = max(self.least_stock, int(self.stock_seconds / self._mean))
        else:
            quota = min(BATCH_TASKS, max(2, int(self.stock_seconds / (self._mean + OVERHEAD_SECONDS))))
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
            assert worker.unwanted <= set(worker.assigned)
            assert worker.left is None or worker.left >= 0
            assert not worker.unwanted or worker.state is KILLED or worker.watch is not None
            for seq, task in worker.assigned.items():
                assert seq == task.first and 0 <= task.done < task.count
                assert 0 < seq <= worker.last < self._next_seq
                if seq in worker.unwanted:
                    assert task.state == DONE
                    continue
                assert id(task) not in seen, "a task is in two places"
                seen.add(id(task))
                assert task.state == ASSIGNED and task.worker == worker.id
                assert 1 <= task.attempts <= task.options.retries + 1, (task.attempts, task.options.retries)
                assert task.options.timeout is None or worker.watch is not None or worker.state is KILLED
            if worker.draining or worker.retired or worker.state is not READY:
                assert worker.id not in self._open
        assert alive == self._alive, (alive, self._alive)
        assert starting == self._starting, (starting, self._starting)
        assert self._lent == sum(worker.waiting for worker in self.workers.values())
        for id_, worker in self._open.items():
            assert self.workers.get(id_) is worker
            assert self._wants(worker)
        for t in self.waiting:
            assert t.state == WAITING and t.worker is None
            assert id(t) not in seen, "a task is in two places"
            assert 1 <= t.attempts <= t.options.retries
        if self.closed:
            assert not self.workers and not self.queued and not self.waiting


def _look_after(task: Task) -> float | None:
    """Seconds after which a worker that was given it has to be looked at; None: it need not be."""
    timeout: float | None = task.options.timeout
    if task.options.memory_limit is not None and (timeout is None or timeout > MEMORY_SECONDS):
        timeout = MEMORY_SECONDS
    return timeout


def _holder(worker: Worker, seq: int) -> Task | None:
    """The task of a worker's that has this number, or the run that has an item with it."""
    task = worker.assigned.get(seq)
    if task is not None:
        return task
    for task in worker.assigned.values():
        if task.run and task.first <= seq < task.first + task.count:
            return task
    return None


def _has_behind(worker: Worker) -> bool:
    """May anything wait behind what it runs?"""
    if len(worker.assigned) > 1:
        return True
    return any(task.run and task.done + 1 < task.count for task in worker.assigned.values())


def _with_rests(tasks: Iterable[Task]) -> Iterator[Task]:
    """Each of them, and what was split off from it."""
    for each in tasks:
        task: Task | None = each
        while task is not None:
            yield task
            task = task.rest


def _load(worker: Worker) -> int:
    return len(worker.assigned)


_HANDLERS: dict[type, Any] = {
    Submit: State._submit,
    Ready: State._ready,
    Finished: State._finished,
    Yielded: State._yielded,
    Skipped: State._skipped,
    Revoked: State._revoked,
    Looked: State._looked,
    Spared: State._spared,
    Ended: State._ended,
    Cancel: State._cancel,
    Judged: State._judged,
    Due: State._due,
    Swollen: State._swollen,
    Aged: State._aged,
    Limit: State._limit,
    Lend: State._lend,
    Renew: State._renew,
    Warm: State._warm,
    Shutdown: State._shutdown,
}
