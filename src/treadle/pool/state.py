"""The pool's brain: events in, instructions out.

There is no thread, no I/O and no clock in this module, nor in those that it is made of.  `State.handle(event)` changes
the state and returns what has to be done about it; `driver.py` does it, outside of its lock, and reports back with
further events.  So every order of submit, start, finish, die, time out, cancel and shut down can be tested without a
single process.

`crew.py` has the workers, `stock.py` how much each may hold, `backlog.py` the tasks; each adds its fields, with their
invariants, to the one object that the loops in C work on.  Here are the rules: what each event means for all of them.

A worker runs what it holds in order, one at a time.  Three things keep batches honest: the engine knows which task is
running (so the blame is exact), the others go back to the queue when the worker dies, and they can be taken back
(`Revoke`) when they wait behind a long one while another worker has nothing to do.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .backlog import Backlog, has_behind, holder, with_rests
from .crew import GONE, KILLED, READY, STARTING, STOPPING, Worker
from .events import (
    Aged,
    Cancel,
    Close,
    Due,
    Ended,
    Event,
    Finished,
    Hand,
    Instruction,
    Judged,
    KillWorker,
    Lend,
    Limit,
    Looked,
    Ready,
    Recall,
    Renew,
    Restore,
    Revoke,
    Revoked,
    Send,
    Settle,
    Shutdown,
    Skipped,
    Spared,
    StopWorker,
    Submit,
    Swollen,
    Warm,
    Yielded,
)
from .options import PLAIN, PoolOptions
from .ranks import Ranks
from .task import ASSIGNED, BROKEN, CANCELLED, DIED, DONE, NEW, OVER_MEMORY, PART, QUEUED, TIMED_OUT, WAITING, Task

STALL_SECONDS = 0.02  # a batch is stuck when its head runs this long while another worker is idle
MAX_START_FAILURES = 3  # workers in a row that end before they are ready: then queued tasks fail
MAX_START_KILLS = 12  # the same for workers that something kills: it may have been after others too, and be gone soon
STOP_SECONDS = 0.005  # how soon to look again at a worker that may have begun a task that was cancelled
MEMORY_SECONDS = 0.05  # how often to look at the memory of a task that has a limit


class State(Backlog):
    """All that the pool has to remember.  Not thread-safe: one caller at a time (the driver's lock sees to it)."""

    def __init__(
        self,
        workers: int,
        starts: int | None = None,
        batches: bool = True,
        options: PoolOptions = PLAIN,
        keep: int = 0,
        stoppable: bool = False,
    ) -> None:
        super().__init__(workers, options, keep, stoppable, batches, starts)
        self.killing = False
        self.closed = False  # Invariant: True only when there is no worker and no task left

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
        ends: list[tuple[Task, int, Any]] = []
        for seq in event.seqs:
            if self._forget(worker, seq):
                continue
            task = holder(worker, seq)
            if task is None:
                continue
            # It was at the very start when the rest was revoked.
            if task.cut:
                worker.draining.discard(task.first + task.count)
            if task.run and self._forget(worker, task.first):
                continue
            if task.run:
                worker.assigned.pop(task.first)
                self._leave_rest(worker, task, task.done, ends)
            else:
                self._give_back(worker, worker.assigned.pop(seq), ends)
        if ends:
            out.append(Settle(ends))
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
        ends: list[tuple[Task, int, Any]] = []
        for seq in sorted((s for s in worker.assigned if s > event.after), reverse=True):
            worker.draining.add(seq)
            if not self._forget(worker, seq):
                self._give_back(worker, worker.assigned.pop(seq), ends)
        task = holder(worker, event.after)
        if task is not None and event.after < task.first + task.count - 1:
            self._cut(worker, task, event.after, ends)
        if ends:
            out.append(Settle(ends))
        if not worker.draining:
            out.append(Restore(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _looked(self, event: Looked, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        worker.watch = None
        task = holder(worker, event.running) if event.running is not None else None
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
            and has_behind(worker)
            and not worker.draining
            and event.seconds >= STALL_SECONDS
            and self._has_idle()
        ):
            out.append(Revoke(worker.id))
        # Whatever waits behind the running task can't be over time before its own time-out has passed from now.
        due = [t.options.timeout for t in worker.assigned.values() if t.options.timeout is not None and t is not task]
        if task is not None and task.options.timeout is not None:
            due.append(task.options.timeout - event.seconds)
        if has_behind(worker) and self._has_idle():
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
        if has_behind(worker) and not worker.recalled.isdisjoint(worker.assigned):
            out.append(Revoke(worker.id))
        self._review(worker, out)
        self._assign(out)

    def _ended(self, event: Ended, out: list[Instruction]) -> None:
        worker = self.workers.pop(event.worker, None)
        if worker is None:
            return
        was = worker.state
        self._lent -= worker.waiting
        self._move(worker, GONE)
        ends: list[tuple[Task, int, Any]] = []
        back: list[Task] = []
        recalled: set[Task] = set()  # of these
        for seq, task in worker.assigned.items():
            if seq in worker.unwanted:
                continue
            task.worker = None
            before = len(back)
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
                continue
            else:
                task.attempts -= 1
                back.append(task)
            if seq in worker.recalled:
                recalled.update(back[before:])
        worker.assigned.clear()
        worker.unwanted.clear()
        for task in reversed(back):
            if task in recalled:
                self._end(task, CANCELLED, None, ends)
            else:
                self._requeue(task)
        if was is STARTING and not self.killing:
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
        elif was is not STOPPING:
            self.restarts += 1
        if ends:
            out.append(Settle(ends))
        self._assign(out)
        self._maybe_close(out)

    def _cancel(self, event: Cancel, out: list[Instruction]) -> None:
        ends: list[tuple[Task, int, Any]] = []
        for task in with_rests(event.tasks):
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

    def _recall(self, event: Recall, out: list[Instruction]) -> None:
        asked: set[int] = set()
        for task in with_rests(event.tasks):
            if task.state == ASSIGNED:
                assert task.worker is not None
                worker = self.workers[task.worker]
                if worker.id not in asked:
                    asked.add(worker.id)
                    worker.recalled.intersection_update(worker.assigned)
                worker.recalled.add(task.first)
        # One that is being killed may be spared, and is asked then.
        ready = (worker for id_ in asked if (worker := self.workers[id_]).state is READY)
        out += [Revoke(worker.id) for worker in ready if has_behind(worker) and not worker.draining]
        self._cancel(Cancel(event.tasks), out)

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

    # -- what holds for all workers

    def _swollen(self, event: Swollen, out: list[Instruction]) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state is not READY:
            return
        if len(worker.assigned) > 1 and not worker.draining:
            out.append(Revoke(worker.id))
        self._retire(worker, out)
        self._assign(out)

    def _aged(self, event: Aged, out: list[Instruction]) -> None:
        self._rest(out)

    def _limit(self, event: Limit, out: list[Instruction]) -> None:
        self.max_workers = self._wanted = event.workers
        self.starts = event.starts
        self.batches = event.batches
        self.keep = event.keep
        self.stoppable = event.stoppable
        self._unlearn()
        if event.replace:
            for worker in list(self.workers.values()):
                self._retire(worker, out)
        self._assign(out)

    def _warm(self, event: Warm, out: list[Instruction]) -> None:
        while not self.closing and self._alive < self._allowed():
            self._start(out)

    def _renew(self, event: Renew, out: list[Instruction]) -> None:
        self.done = self.failed = self.cancelled = self.restarts = 0
        self._unlearn()

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

    def _look_for_stalls(self, out: list[Instruction]) -> None:
        """A worker has nothing to do: see to it that no task waits behind a long one elsewhere."""
        if not self._has_idle():
            return
        for worker in self.workers.values():
            if worker.state is READY and has_behind(worker):
                self._watch(worker, STALL_SECONDS, out)

    def _go_on(self, out: list[Instruction]) -> None:
        self._assign(out)
        self._stop_idle(out)
        self._maybe_close(out)

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

    # -- tests

    def validate(self) -> None:
        """Raise AssertionError unless every invariant holds."""
        super().validate()
        if self.closed:
            assert not self.workers and not self.queued and not self.waiting


def _look_after(task: Task) -> float | None:
    """Seconds after which a worker that was given it has to be looked at; None: it need not be."""
    timeout: float | None = task.options.timeout
    if task.options.memory_limit is not None and (timeout is None or timeout > MEMORY_SECONDS):
        timeout = MEMORY_SECONDS
    return timeout


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
    Recall: State._recall,
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
