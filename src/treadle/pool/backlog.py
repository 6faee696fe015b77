"""The brain's tasks: which are queued, which wait for another attempt, and how they end.

A run is several items of a map that travel as one task; it is split where it can't go on as a whole.  Pure, as
`state.py` is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from .crew import KILLED, Worker
from .events import Delay, Ended, Instruction, Judge, Settle
from .options import PoolOptions
from .ranks import Ranks
from .stock import Stock
from .task import ASSIGNED, CANCELLED, DIED, DONE, PART, QUEUED, WAITING, Task

__all__ = ["Backlog", "has_behind", "holder", "with_rests"]

MAX_LOSSES = 5  # workers that end, running nothing, with the same task next in line: then it is taken for the cause


class Backlog(Stock):
    """The workers with what they hold, and the tasks that nobody holds."""

    def __init__(
        self, workers: int, options: PoolOptions, keep: int, stoppable: bool, batches: bool, starts: int | None
    ) -> None:
        super().__init__(workers, options, keep, stoppable, batches)
        # Failed, with another attempt in sight.  Invariant: exactly the tasks that are WAITING.
        self.waiting = set()
        self.starts = starts  # how many more tasks may be given out; None: any number
        # Invariant: holds each QUEUED task once; an entry whose task is not QUEUED is dead and is skipped.
        # A plain deque until the first task with a priority comes.
        self.queue: deque[Task] | Ranks = deque()
        self.queued = 0  # Invariant: number of QUEUED tasks
        self._next_seq = 1
        self.done = 0
        self.failed = 0
        self.cancelled = 0

    def _requeue(self, task: Task) -> None:
        """Back to the head of the queue, for another attempt."""
        task.state = QUEUED
        task.cut = False
        task.worker = None
        self.queue.appendleft(task)
        self.queued += 1
        if self.starts is not None:
            self.starts += 1

    def _give_back(self, worker: Worker, task: Task, ends: list[tuple[Task, int, Any]]) -> None:
        """It has not started, and does not in this worker."""
        if worker.left is not None:
            worker.left += 1
        task.attempts -= 1
        self._pass_on(worker, task.first, task, ends)

    def _pass_on(self, worker: Worker, first: int, task: Task, ends: list[tuple[Task, int, Any]]) -> None:
        """What the worker had as number `first`, or the rest of it, is for another one; if recalled, for none."""
        if first in worker.recalled:
            self._end(task, CANCELLED, None, ends)
        else:
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

    # -- runs

    def _cut(self, worker: Worker, run: Task, after: int, ends: list[tuple[Task, int, Any]]) -> None:
        """The worker goes on with a run up to that number; the rest is for others."""
        worker.draining.add(after + 1)
        rest = run.split(after - run.first + 1)
        run.cut = True
        if run.first in worker.unwanted:
            rest.state = DONE  # for whoever waits it has ended already
        else:
            self._pass_on(worker, run.first, rest, ends)
        if run.done == run.count:
            del worker.assigned[run.first]
            worker.unwanted.discard(run.first)
            run.state, run.worker = DONE, None

    def _leave_rest(self, worker: Worker, run: Task, count: int, ends: list[tuple[Task, int, Any]]) -> None:
        """So many items of a run have ended, and its worker does no more of it: the others go back to the queue."""
        if count == 0:
            self._give_back(worker, run, ends)
            return
        rest = run.split(count) if count < run.count else None
        run.state, run.worker = DONE, None
        if rest is not None:
            self._pass_on(worker, run.first, rest, ends)

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

    # -- what was cancelled while a worker had it

    def _forget(self, worker: Worker, seq: int) -> bool:
        """Was it unwanted?  Then it is known no more."""
        if seq not in worker.unwanted:
            return False
        worker.unwanted.discard(seq)
        del worker.assigned[seq]
        return True

    def _forget_result(self, worker: Worker, result: Any) -> None:
        """The same for what a worker has said; of a run, when that was its last item."""
        task = holder(worker, result[0])
        if task is None or not task.run:
            self._forget(worker, result[0])
        elif task.first in worker.unwanted:
            task.done = min(task.count, task.done + (len(result[2]) if result[1] == PART else 1))
            if task.done == task.count:
                self._forget(worker, task.first)

    def validate(self) -> None:
        """Raise AssertionError unless every invariant of the tasks holds too."""
        super().validate()
        live = [task for task in self.queue if task.state == QUEUED]
        assert len(live) == self.queued, (len(live), self.queued)
        places = [*live, *self.waiting]
        for task in live:
            assert task.worker is None
        for task in self.waiting:
            assert task.state == WAITING and task.worker is None
            assert 1 <= task.attempts <= task.options.retries
        for worker in self.workers.values():
            for seq, task in worker.assigned.items():
                assert seq == task.first and 0 <= task.done < task.count
                assert 0 < seq <= worker.last < self._next_seq
                if seq in worker.unwanted:
                    assert task.state == DONE
                    continue
                places.append(task)
                assert task.state == ASSIGNED and task.worker == worker.id
                assert 1 <= task.attempts <= task.options.retries + 1, (task.attempts, task.options.retries)
                assert task.options.timeout is None or worker.watch is not None or worker.state is KILLED
        assert len({id(task) for task in places}) == len(places), "a task is in two places"


def holder(worker: Worker, seq: int) -> Task | None:
    """The task of a worker's that has this number, or the run that has an item with it."""
    task = worker.assigned.get(seq)
    if task is not None:
        return task
    for task in worker.assigned.values():
        if task.run and task.first <= seq < task.first + task.count:
            return task
    return None


def has_behind(worker: Worker) -> bool:
    """May anything wait behind what it runs?"""
    if len(worker.assigned) > 1:
        return True
    return any(task.run and task.done + 1 < task.count for task in worker.assigned.values())


def with_rests(tasks: Iterable[Task]) -> Iterator[Task]:
    """Each of them, and what was split off from it."""
    for each in tasks:
        task: Task | None = each
        while task is not None:
            yield task
            task = task.rest
