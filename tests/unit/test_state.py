"""The brain alone: arbitrary orders of events, no process, no thread, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from treadle._native import _core
from treadle.pool import events as brain
from treadle.pool.backlog import MAX_LOSSES
from treadle.pool.crew import READY, STARTING
from treadle.pool.options import BACKOFF_CAP, PLAIN, PoolOptions, pool_options, task_options
from treadle.pool.state import MAX_START_FAILURES, MAX_START_KILLS, State
from treadle.pool.task import (
    ASSIGNED,
    BROKEN,
    CANCELLED,
    DIED,
    DONE,
    NEW,
    PART,
    QUEUED,
    RAISED,
    RETURNED,
    TIMED_OUT,
    WAITING,
    Call,
    Task,
)
from treadle.sync import Lock


class Recorder:
    def deliver(self, task: Task, kind: int, data: Any) -> None:
        raise AssertionError("the brain delivers nothing by itself")


def make_task(timeout: float | None = None, retries: int = 0, **more: Any) -> Task:
    return Task(Call(print, (), None), Recorder(), None, task_options(timeout, retries, **more))


def make_run(index: int, count: int) -> Task:
    return _core.make_run(print, [(i,) for i in range(count)], "function", [b""] * count, Recorder(), index)


class World:
    """Plays driver and engine: keeps what was said, and knows what a real worker could answer."""

    def __init__(
        self,
        workers: int,
        starts: int | None = None,
        options: PoolOptions = PLAIN,
        stoppable: bool = True,
        batches: bool = True,
    ) -> None:
        self.state = State(workers, starts, batches, options, stoppable=stoppable)
        self.options = options
        self.judging: list[tuple[Task, int, Any]] = []
        self.delayed: list[Task] = []
        self.dozing = 0
        self.handed: list[Task] = []
        self.has_yielded: set[int] = set()  # id(task)
        self.begun: dict[int, int] = {}  # worker -> tasks that it has begun
        self.cancelled_running: set[int] = set()  # id(task)
        self.limit = workers
        self.tasks: list[Task] = []
        self.ends: dict[int, int] = {}  # id(task) -> kind; each task once
        self.inbox: dict[int, list[int]] = {}  # worker -> sequence numbers sent and not yet run, in order
        self.running: dict[int, int | None] = {}
        self.published: dict[int, int] = {}  # worker -> what it runs, or ran last, as `_native/memory/lane.h` has it
        self.revoked: dict[int, int | None] = {}  # worker -> nothing above this may start
        self.started: list[int] = []  # starting
        self.stopping: list[int] = []
        self.killing: list[tuple[int, int | None]] = []
        self.looks: list[int] = []
        self.starts_of: dict[int, int] = {}  # id(task) -> attempts that really began
        self.seqs: dict[int, Task] = {}
        self.runs: list[tuple[Task, int]] = []  # and how many items each was made of
        self.items: dict[int, int] = {}  # index of an item of a run -> how it ended; each once
        self.losses: dict[int, int] = {}  # the same -> workers that ended with it next in line, running nothing
        self.last_of: dict[int, int] = {}  # seq of an item -> the last one of its run, as it was sent
        self.waiting: list[int] = []  # workers that wait for another task, once for each
        self.closed = 0

    def tell(self, event: brain.Event) -> None:
        for instruction in self.state.handle(event):
            self.do(instruction)
        self.state.validate()
        self.check()

    def do(self, instruction: Any) -> None:
        assert not self.closed, "nothing may follow Close"
        match instruction:
            case brain.StartWorker(worker):
                assert worker not in self.inbox
                self.inbox[worker], self.running[worker], self.revoked[worker] = [], None, None
                self.published[worker] = 0
                self.started.append(worker)
            case brain.Send(worker, batch):
                assert worker in self.inbox, "sent to a worker that is gone"
                assert worker not in self.started, "sent to a worker that is not ready"
                assert worker not in self.stopping, "sent to a worker that was told to leave"
                self.given(batch)
                for seq, task in batch:
                    assert seq == task.first
                    for each in range(seq, seq + task.count):
                        assert each not in self.seqs, "a sequence number was used twice"
                        self.seqs[each] = task
                        self.last_of[each] = seq + task.count - 1
                        self.inbox[worker].append(each)
            case brain.StopWorker(worker):
                assert self.running[worker] is None
                limit = self.revoked[worker]
                # What was taken back may still lie in its inbox: it passes over that and leaves.
                assert limit is not None or not self.inbox[worker]
                assert all(seq > (limit or 0) for seq in self.inbox[worker])
                if worker in self.started:
                    self.started.remove(worker)
                self.stopping.append(worker)
            case brain.KillWorker(worker, seq):
                self.killing.append((worker, seq))
            case brain.Revoke(worker):
                current = self.revoked[worker] = self.published[worker]
                for more in self.state.handle(brain.Revoked(worker, current)):
                    self.do(more)
            case brain.Restore(worker):
                self.revoked[worker] = None
            case brain.Watch(worker, seconds):
                assert seconds >= 0
                self.looks.append(worker)
            case brain.Judge(task, kind, data):
                assert task.options.retry_on is not None and task.worker is None
                self.judging.append((task, kind, data))
            case brain.Delay(task, seconds):
                assert 0 < seconds <= BACKOFF_CAP and task.worker is None
                self.delayed.append(task)
            case brain.Hand(task, worker, _):
                assert task.worker == worker and id(task) not in self.ends
                self.handed.append(task)
            case brain.Doze(seconds):
                assert seconds > 0 and self.dozing == 0, "one timer is enough"
                self.dozing += 1
            case brain.Settle(ends):
                for task, kind, data in ends:
                    assert task.run == (kind == PART)
                    if task.run:
                        for i, value in enumerate(data[1], data[0]):
                            assert i not in self.items, "an item ended twice"
                            self.items[i] = value.kind if isinstance(value, _core.Odd) else RETURNED
                        continue
                    assert id(task) not in self.ends, "a task ended twice"
                    assert task.state == DONE
                    self.ends[id(task)] = kind
            case brain.Close():
                self.closed += 1
            case _:
                raise AssertionError(instruction)

    def given(self, batch: list[tuple[int, Task]]) -> None:
        """Of what is queued, the most urgent goes out first."""
        rest = [t.options.priority for t in self.state.queue if t.state == QUEUED]
        ranks = [task.options.priority for _, task in batch]
        assert ranks == sorted(ranks, reverse=True)
        assert not rest or max(rest) <= ranks[-1], "something more urgent was left behind"

    def check(self) -> None:
        for task in self.tasks:
            if id(task) in self.cancelled_running:
                assert task.state == DONE and self.ends[id(task)] == CANCELLED
        assert len(self.inbox) - len(self.stopping) <= self.limit or self.state.killing
        for task in self.tasks:
            assert (task.state == DONE) == (id(task) in self.ends)
            assert self.starts_of.get(id(task), 0) <= task.options.retries + 1, "an attempt too many"
            kind = self.ends.get(id(task))
            if kind == CANCELLED and not self.state.killing and id(task) not in self.cancelled_running:
                assert self.starts_of.get(id(task), 0) == 0 or task.options.retries

    # what a worker can do

    def ready(self) -> None:
        self.tell(brain.Ready(self.started.pop(0)))

    def begin(self, worker: int) -> None:
        """It takes the next task from its inbox: starts it, or passes over a revoked one."""
        seq = self.inbox[worker].pop(0)
        limit = self.revoked[worker]
        if limit is not None and seq > limit:
            while self.inbox[worker] and self.inbox[worker][0] <= self.last_of[seq]:
                self.inbox[worker].pop(0)
            self.published[worker] = 0
            self.tell(brain.Skipped(worker, [seq]))
            return
        self.running[worker] = self.published[worker] = seq
        task = self.seqs[seq]
        if task.run:
            key = -self.index(seq)
            self.starts_of[key] = self.starts_of.get(key, 0) + 1
            assert self.starts_of[key] == 1, "an item started twice"
            return
        assert id(task) not in self.has_yielded, "what it yielded would come twice"
        self.begun[worker] = self.begun.get(worker, 0) + 1
        assert self.begun[worker] <= (self.options.max_tasks_per_worker or 10**9), "a task too many"
        self.starts_of[id(task)] = self.starts_of.get(id(task), 0) + 1

    def index(self, seq: int) -> int:
        """Of an item of a run: which one it is."""
        task = self.seqs[seq]
        assert task.index is not None
        return task.index + seq - task.first

    def finish(self, worker: int, kind: int, seconds: float) -> None:
        seq = self.running[worker]
        assert seq is not None
        self.running[worker] = None
        if self.seqs[seq].run and kind == RETURNED:
            self.tell(brain.Finished(worker, [(seq, PART, ["value"], int(seconds * 1e9), 0)]))
            return
        self.tell(brain.Finished(worker, [(seq, kind, None, int(seconds * 1e9), 0)]))

    def judge(self, again: bool) -> None:
        task, kind, data = self.judging.pop(0)
        self.tell(brain.Judged(task, again, kind, data))

    def due(self) -> None:
        self.tell(brain.Due(self.delayed.pop(0)))

    def aged(self) -> None:
        self.dozing -= 1
        self.tell(brain.Aged())

    def exchange(self, worker: int) -> None:
        """Its only task returns, and it takes the next one by itself, if it may."""
        seq = self.running[worker]
        assert seq is not None
        record = self.state.workers[worker]
        held = dict(record.assigned)
        done = self.state.done
        following = self.state._exchange(record, seq)
        if following is None:
            assert record.assigned == held and self.state.done == done, "refused, and done all the same"
            self.finish(worker, RETURNED, 1e-6)
            return
        new_seq, task = following
        assert list(held) == [seq] and self.state.done == done + 1
        assert new_seq not in self.seqs, "a sequence number was used twice"
        assert record.assigned == {new_seq: task}
        self.ends[id(held[seq])] = RETURNED
        self.seqs[new_seq], self.last_of[new_seq] = task, new_seq
        self.running[worker] = None
        self.inbox[worker].append(new_seq)
        self.state.validate()
        self.check()

    def place(self, task: Task) -> bool:
        """A new task goes to an idle worker without an event, if it may."""
        self.tasks.append(task)
        idle = [w.id for w in self.state._open.values() if not w.assigned]
        placed = self.state._place(task)
        if placed is None:
            assert task.state == NEW and task.worker is None and not task.attempts, "refused, and done all the same"
            self.tell(brain.Submit([task]))
            return False
        worker, seq = placed
        assert idle[-1] == worker and not self.state.queued and self.state.workers[worker].assigned == {seq: task}
        self.given([(seq, task)])
        assert seq not in self.seqs, "a sequence number was used twice"
        assert worker not in self.stopping and worker not in self.started
        self.seqs[seq], self.last_of[seq] = task, seq
        self.inbox[worker].append(seq)
        self.nothing_left(worker)
        return True

    def returns(self, worker: int, seconds: float) -> bool:
        """Its only task returns, and that is all, if it may."""
        seq = self.running[worker]
        assert seq is not None
        task, done = self.seqs[seq], self.state.done
        before = task.state
        if not self.state._return(task, int(seconds * 1e9)):
            assert task.state == before and self.state.done == done, "refused, and done all the same"
            self.finish(worker, RETURNED, seconds)
            return False
        assert before == ASSIGNED and task.worker is None and self.state.done == done + 1
        assert not self.state.workers[worker].assigned and worker in self.state._open
        self.ends[id(task)] = RETURNED
        self.running[worker] = None
        self.nothing_left(worker)
        return True

    def nothing_left(self, worker: int) -> None:
        """The rules, asked to look at this worker and at the queue, find nothing to do."""
        self.state.validate()
        self.check()
        mean = self.state._mean
        assert not self.state.handle(brain.Skipped(worker, []))
        assert self.state._mean or not mean
        self.state.validate()

    def recall(self, tasks: list[Task]) -> None:
        """What has not started ends; also, where it runs behind something, what was in stock."""
        before = [(task, task.state) for task in tasks]
        ended = self.ends.copy()
        self.tell(brain.Recall(tasks))
        for task, was in before:
            if task.run:
                continue
            if was in (NEW, QUEUED, WAITING):
                assert self.ends[id(task)] == CANCELLED
            elif was == ASSIGNED and task.worker is None:
                assert id(task) not in ended and self.ends[id(task)] == CANCELLED
            elif was == ASSIGNED:
                assert task.worker is not None
                held = self.state.workers[task.worker]
                # It runs, may do so any moment, or will be known when its worker was spared or is gone.
                assert held.state != READY or task.first <= (self.revoked[held.id] or task.first)

    def yields(self, worker: int) -> None:
        seq = self.running[worker]
        assert seq is not None
        self.handed.clear()
        task = self.seqs[seq]
        wanted = task.state == ASSIGNED
        self.tell(brain.Yielded(worker, seq, [b""]))
        assert self.handed == ([task] if wanted else [])
        if wanted:
            self.has_yielded.add(id(task))

    def end(self, worker: int, killed: bool = False) -> None:
        running = self.running.pop(worker)
        following = next((seq for seq in self.inbox[worker] if self.seqs[seq].state == ASSIGNED), None)
        if running is None and following is not None and self.seqs[following].run:
            index = self.index(following)
            self.losses[index] = self.losses.get(index, 0) + 1
        del self.inbox[worker], self.revoked[worker], self.published[worker]
        self.waiting = [each for each in self.waiting if each != worker]
        for group in (self.started, self.stopping):
            if worker in group:
                group.remove(worker)
        self.killing = [each for each in self.killing if each[0] != worker]
        self.tell(brain.Ended(worker, running, None, "test", killed))

    def drain(self) -> None:
        """Let everything that can happen happen."""
        for _ in range(10_000):
            if self.killing:
                worker, seq = self.killing[0]
                if seq is None or self.running.get(worker) == seq:
                    self.end(worker)
                else:
                    self.killing.pop(0)
                    if worker in self.inbox:
                        self.tell(brain.Spared(worker, self.running[worker], 0.0))
            elif self.started:
                self.ready()
            elif any(self.running[w] is not None for w in self.inbox):
                self.finish(next(w for w in self.inbox if self.running[w] is not None), RETURNED, 0.001)
            elif any(self.inbox.values()):
                self.begin(next(w for w in self.inbox if self.inbox[w]))
            elif self.stopping:
                self.end(self.stopping[0])
            elif self.judging:
                self.judge(False)
            elif self.delayed:
                self.due()
            else:
                return
        raise AssertionError("it never comes to rest")


class Machine(RuleBasedStateMachine):
    """Arbitrary orders of everything."""

    @initialize(
        workers=st.integers(1, 4),
        starts=st.none() | st.integers(1, 5),
        most=st.none() | st.integers(1, 5),
        stoppable=st.booleans(),
        batches=st.booleans(),
    )
    def begin_world(self, workers: int, starts: int | None, most: int | None, stoppable: bool, batches: bool) -> None:
        self.world = World(
            workers, starts, pool_options(max_tasks_per_worker=most, idle_timeout=4.0), stoppable, batches
        )
        self.stoppable = stoppable
        self.plain = most is None and starts is None and batches
        self.counted = 0  # tasks that had ended at the last renewal
        self.gated = starts is not None
        self.workers = workers

    def pick(self, data: st.DataObject, things: list[Any]) -> Any:
        return data.draw(st.sampled_from(things))

    @precondition(lambda self: not self.world.state.closing)
    @rule(
        count=st.integers(1, 6),
        timeout=st.sampled_from([None, None, 0.5, 3.0]),
        retries=st.integers(0, 2),
        backoff=st.sampled_from([0.0, 0.0, 0.5]),
        retry_on=st.sampled_from([None, None, OSError]),
        priority=st.sampled_from([0, 0, 0, -1, 5]),
        memory=st.sampled_from([None, None, 1000]),
    )
    def submit(self, count: int, timeout: float | None, retries: int, memory: int | None, **more: Any) -> None:
        tasks = [make_task(timeout, retries, memory_limit=memory, **more) for _ in range(count)]
        self.world.tasks += tasks
        self.world.tell(brain.Submit(tasks))

    @precondition(lambda self: self.plain and not self.world.state.closing)
    @rule(count=st.integers(2, 6))
    def submit_run(self, count: int) -> None:
        run = make_run(1 + sum(n for _, n in self.world.runs), count)
        self.world.runs.append((run, count))
        self.world.tell(brain.Submit([run]))

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data(), running=st.booleans())
    def cancel_run(self, data: st.DataObject, running: bool) -> None:
        run, count = data.draw(st.sampled_from(self.world.runs))
        self.world.tell(brain.Cancel([run], running))
        if running and self.stoppable and run.index is not None:
            assert all(i in self.world.items for i in range(run.index, run.index + count))

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def recall_run(self, data: st.DataObject) -> None:
        run, _ = data.draw(st.sampled_from(self.world.runs))
        self.world.recall([run])

    @precondition(lambda self: not self.world.state.closing)
    @rule(retries=st.sampled_from([0, 0, 1]))
    def offer(self, retries: int) -> None:
        """A task joins the queue without an event, where an event would do nothing else."""
        task = make_task(None, retries)
        queued = self.world.state.queued
        self.world.tasks.append(task)
        if self.world.state.offer(Lock(), task):
            assert task.state == QUEUED and self.world.state.queued == queued + 1 and not retries
            assert not self.world.state._open, "somebody could have been given it"
            self.world.state.validate()
        else:
            self.world.tell(brain.Submit([task]))

    @precondition(lambda self: not self.world.state.closing)
    @rule(retries=st.sampled_from([0, 0, 1]))
    def place(self, retries: int) -> None:
        """A task goes to an idle worker without an event, where an event would do nothing else."""
        self.world.place(make_task(None, retries))

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), seconds=st.sampled_from([1e-6, 0.003, 2.0]))
    def worker_returns(self, data: st.DataObject, seconds: float) -> None:
        self.world.returns(self.pick(data, self.busy()), seconds)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def worker_goes_on(self, data: st.DataObject) -> None:
        self.world.exchange(self.pick(data, self.busy()))

    @precondition(lambda self: self.world.started)
    @rule()
    def worker_ready(self) -> None:
        self.world.ready()

    @precondition(lambda self: any(self.idle_with_inbox()))
    @rule(data=st.data())
    def worker_begins(self, data: st.DataObject) -> None:
        self.world.begin(self.pick(data, self.idle_with_inbox()))

    def idle_with_inbox(self) -> list[int]:
        w = self.world
        return [k for k, inbox in w.inbox.items() if inbox and w.running[k] is None]

    def busy(self) -> list[int]:
        return [k for k, seq in self.world.running.items() if seq is not None]

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), failed=st.booleans(), seconds=st.sampled_from([1e-6, 1e-4, 0.003, 0.1, 2.0]))
    def worker_finishes(self, data: st.DataObject, failed: bool, seconds: float) -> None:
        self.world.finish(self.pick(data, self.busy()), RAISED if failed else RETURNED, seconds)

    @precondition(lambda self: self.world.inbox)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        self.world.end(self.pick(data, list(self.world.inbox)))

    @precondition(lambda self: self.world.stopping)
    @rule(data=st.data())
    def worker_leaves(self, data: st.DataObject) -> None:
        self.world.end(self.pick(data, self.world.stopping))

    @precondition(lambda self: self.world.killing)
    @rule(data=st.data(), late=st.booleans())
    def kill_takes_effect(self, data: st.DataObject, late: bool) -> None:
        worker, seq = self.pick(data, self.world.killing)
        if seq is not None and self.world.running.get(worker) != seq:
            self.world.killing.remove((worker, seq))
            if worker in self.world.inbox:
                self.world.tell(brain.Spared(worker, self.world.running[worker], 0.0))
        else:
            self.world.end(worker)

    @precondition(lambda self: self.world.inbox)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.05, 1.0, 10.0]), memory=st.sampled_from([0, 0, 2000]))
    def somebody_looks(self, data: st.DataObject, seconds: float, memory: int) -> None:
        worker = self.pick(data, list(self.world.inbox))
        self.world.tell(brain.Looked(worker, self.world.running[worker], seconds, memory))

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def worker_yields(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.busy())
        if not self.world.seqs[self.world.running[worker]].run:
            self.world.yields(worker)

    @precondition(lambda self: self.world.judging)
    @rule(again=st.booleans())
    def somebody_judges(self, again: bool) -> None:
        self.world.judge(again)

    @precondition(lambda self: self.world.delayed)
    @rule()
    def a_back_off_passes(self) -> None:
        self.world.due()

    @precondition(lambda self: self.world.dozing)
    @rule()
    def time_passes(self) -> None:
        self.world.aged()

    @precondition(lambda self: any(k not in self.world.started for k in self.world.inbox))
    @rule(data=st.data())
    def a_worker_is_too_large(self, data: st.DataObject) -> None:
        worker = self.pick(data, [k for k in self.world.inbox if k not in self.world.started])
        self.world.tell(brain.Swollen(worker))

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data(), running=st.booleans())
    def cancel(self, data: st.DataObject, running: bool) -> None:
        some = data.draw(st.lists(st.sampled_from(self.world.tasks), min_size=1, max_size=5, unique_by=id))
        before = [(task, task.state) for task in some]
        ends = running and self.stoppable
        if ends:
            self.world.cancelled_running |= {id(task) for task, was in before if was == ASSIGNED}
        self.world.tell(brain.Cancel(some, running))
        for task, was in before:
            assert task.state == (ASSIGNED if was == ASSIGNED and not ends else DONE)
            if was in (QUEUED, WAITING) or (was == ASSIGNED and ends):
                assert self.world.ends[id(task)] == CANCELLED

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data())
    def recall(self, data: st.DataObject) -> None:
        self.world.recall(data.draw(st.lists(st.sampled_from(self.world.tasks), min_size=1, max_size=5, unique_by=id)))

    @precondition(lambda self: self.gated)
    @rule(workers=st.integers(1, 4), replace=st.booleans())
    def decide(self, workers: int, replace: bool) -> None:
        self.gated = False
        self.workers = workers
        self.allow()
        self.world.tell(brain.Limit(workers, None, replace, stoppable=self.stoppable))

    def allow(self) -> None:
        """Those who were once allowed may stay until they run dry."""
        self.world.limit = max(self.world.limit, self.workers + len(self.world.waiting))

    @precondition(lambda self: self.world.inbox)
    @rule(data=st.data())
    def somebody_waits(self, data: st.DataObject) -> None:
        worker = self.pick(data, list(self.world.inbox))
        self.world.waiting.append(worker)
        self.allow()
        self.world.tell(brain.Lend(worker, 1))

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data())
    def somebody_goes_on(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.world.waiting)
        self.world.waiting.remove(worker)
        self.world.tell(brain.Lend(worker, -1))

    @rule()
    def warm(self) -> None:
        self.world.tell(brain.Warm())
        state = self.world.state
        assert state.closing or sum(w.counted for w in state.workers.values()) >= state.max_workers

    @precondition(lambda self: all(task.state == DONE for task in self.world.tasks) and self.all_runs_ended())
    @rule()
    def renew(self) -> None:
        self.counted = len(self.world.tasks) + len(self.world.items)
        self.world.tell(brain.Renew())

    def all_runs_ended(self) -> bool:
        return len(self.world.items) == sum(count for _, count in self.world.runs)

    @rule(cancel=st.booleans(), kill=st.sampled_from([False, False, True]))
    def shut_down(self, cancel: bool, kill: bool) -> None:
        self.world.tell(brain.Shutdown(cancel, kill))

    @invariant()
    def valid(self) -> None:
        if hasattr(self, "world"):
            self.world.state.validate()

    def teardown(self) -> None:
        """However it went: let it run out, and every task must have ended exactly once, and the pool must close."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for worker in list(world.waiting):
            world.waiting.remove(worker)
            world.tell(brain.Lend(worker, -1))
        if self.gated:
            world.tell(brain.Limit(self.workers, None, False, stoppable=self.stoppable))
        world.tell(brain.Shutdown())
        world.drain()
        assert world.closed == 1, "it does not close"
        assert {id(t) for t in world.tasks} == set(world.ends)
        assert set(world.items) == set(range(1, 1 + sum(count for _, count in world.runs)))
        for index, kind in world.items.items():
            poison = world.losses.get(index, 0) >= MAX_LOSSES
            assert kind != DIED or world.starts_of.get(-index) == 1 or poison, "blamed without having started"
        state = world.state
        assert state.done + state.failed + state.cancelled == len(world.tasks) + len(world.items) - self.counted


Machine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = pytest.mark.timeout(300)(Machine.TestCase)


def ready_world(workers: int = 1) -> World:
    world = World(workers)
    warm = [make_task() for _ in range(workers)]
    world.tasks += warm
    world.tell(brain.Submit(warm))
    world.drain()
    return world


def test_a_worker_is_started_only_when_there_is_work() -> None:
    world = World(3)
    assert not world.inbox
    world.tell(brain.Submit([make_task()]))
    assert len(world.inbox) == 1


def test_small_tasks_travel_in_batches_and_one_that_turns_out_long_gives_the_others_back() -> None:
    world = ready_world(2)
    for _ in range(50):
        world.tell(brain.Submit([make_task()]))
        for worker in list(world.inbox):
            if world.inbox[worker]:
                world.begin(worker)
                world.finish(worker, RETURNED, 1e-6)
    world.drain()
    tasks = [make_task() for _ in range(20)]
    world.tasks += tasks
    world.tell(brain.Submit(tasks))
    first, second = sorted(world.inbox, key=lambda w: -len(world.inbox[w]))
    assert len(world.inbox[first]) > 1, "no batch was formed"
    # The head of the first batch does not end; the other worker runs dry.
    world.begin(first)
    while world.inbox[second] or world.running[second] is not None:
        if world.running[second] is None:
            world.begin(second)
        else:
            world.finish(second, RETURNED, 1e-6)
    waiting = len(world.inbox[first])
    assert waiting and first in world.looks
    world.tell(brain.Looked(first, world.running[first], 1.0))
    assert world.revoked[first] is not None
    assert world.inbox[second], "what waited behind the long task did not move on"


def test_a_run_that_is_revoked_between_two_of_its_items_goes_on_behind_what_has_returned() -> None:
    world = World(2)
    run = make_run(1, 4)
    world.runs.append((run, 4))
    world.tell(brain.Submit([run]))
    world.ready()
    (worker,) = world.inbox
    world.begin(worker)
    world.finish(worker, RETURNED, 1e-6)
    world.tell(brain.Lend(worker, 1))  # it waits for another one: what it has not begun is for others
    assert world.items == {1: RETURNED}
    world.tell(brain.Lend(worker, -1))
    world.drain()
    assert world.items == dict.fromkeys(range(1, 5), RETURNED)


def stocked_world(*tasks: Task) -> tuple[World, int]:
    """A worker that holds all of these, and runs the first of them."""
    world = ready_world()
    for _ in range(50):
        world.tell(brain.Submit([make_task()]))
        (worker,) = world.inbox
        if world.inbox[worker]:
            world.begin(worker)
            world.finish(worker, RETURNED, 1e-6)
    world.drain()
    world.tasks += tasks
    world.tell(brain.Submit(list(tasks)))
    assert len(world.inbox[worker]) == len(tasks), "no batch was formed"
    world.begin(worker)
    return world, worker


def test_what_is_recalled_ends_also_out_of_a_stock_and_what_runs_goes_on() -> None:
    tasks = [make_task() for _ in range(6)]
    world, _ = stocked_world(*tasks)
    world.recall(tasks[:4])
    assert [world.ends.get(id(task)) for task in tasks] == [None, CANCELLED, CANCELLED, CANCELLED, None, None]
    world.drain()
    assert [world.ends[id(task)] for task in tasks] == [RETURNED, *[CANCELLED] * 3, RETURNED, RETURNED]


@pytest.mark.parametrize("spared", [False, True])
def test_what_is_recalled_from_a_worker_that_is_to_be_killed(spared: bool) -> None:
    tasks = [make_task(timeout=1.0), *(make_task() for _ in range(3))]
    world, worker = stocked_world(*tasks)
    world.tell(brain.Looked(worker, world.running[worker], 2.0))
    assert world.killing
    world.recall(tasks[1:3])
    assert not any(id(task) in world.ends for task in tasks[1:])
    if spared:
        world.finish(worker, RETURNED, 1e-6)
        world.begin(worker)
        (killed,) = world.killing
        world.killing.clear()
        world.tell(brain.Spared(killed[0], world.running[worker], 0.0))
        ends = [RETURNED, RETURNED, CANCELLED, RETURNED]
    else:
        world.end(worker)
        ends = [TIMED_OUT, CANCELLED, CANCELLED, RETURNED]
    world.drain()
    assert [world.ends[id(task)] for task in tasks] == ends


def test_only_the_running_task_is_blamed_for_a_death() -> None:
    world = World(1)
    tasks = [make_task() for _ in range(3)]
    world.tasks += tasks
    world.tell(brain.Submit(tasks))
    world.ready()
    (worker,) = world.inbox
    world.begin(worker)
    world.end(worker)
    assert [world.ends.get(id(t)) for t in tasks] == [DIED, None, None]
    world.drain()
    assert [world.ends.get(id(t)) for t in tasks] == [DIED, RETURNED, RETURNED]


def test_a_death_between_two_tasks_blames_nobody() -> None:
    world = World(1)
    task = make_task()
    world.tasks.append(task)
    world.tell(brain.Submit([task]))
    world.ready()
    world.end(next(iter(world.inbox)))
    assert task.state == QUEUED
    world.drain()
    assert world.ends == {id(task): RETURNED}


def test_what_was_cancelled_before_it_came_is_not_taken_in() -> None:
    world = ready_world(1)
    tasks = [make_task() for _ in range(3)]
    world.tasks += tasks
    world.tell(brain.Cancel([tasks[1]]))
    world.tell(brain.Submit(tasks))
    world.drain()
    assert [world.ends[id(t)] for t in tasks] == [RETURNED, CANCELLED, RETURNED]
    last = make_task()
    world.tasks.append(last)
    world.tell(brain.Cancel([last]))
    world.tell(brain.Shutdown(False, True))
    world.tell(brain.Submit([last]))  # the end has come meanwhile
    assert world.ends[id(last)] == CANCELLED


def test_over_time_means_killed_and_named_so() -> None:
    world = World(1)
    task = make_task(timeout=1.0)
    world.tasks.append(task)
    world.tell(brain.Submit([task]))
    world.ready()
    (worker,) = world.inbox
    world.begin(worker)
    world.tell(brain.Looked(worker, world.running[worker], 0.5))
    assert not world.killing
    world.tell(brain.Looked(worker, world.running[worker], 1.0))
    assert world.killing == [(worker, world.running[worker])]
    world.end(worker)
    assert world.ends == {id(task): TIMED_OUT}


def test_workers_that_never_get_ready_break_the_queued_tasks_and_not_the_pool() -> None:
    world = World(1)
    task = make_task()
    world.tasks.append(task)
    world.tell(brain.Submit([task]))
    for _ in range(MAX_START_FAILURES):
        assert task.state == QUEUED
        world.end(world.started[0])
    assert world.ends == {id(task): BROKEN}
    again = make_task()
    world.tasks.append(again)
    world.tell(brain.Submit([again]))
    world.drain()
    assert world.ends[id(again)] == RETURNED


def test_workers_that_are_killed_before_they_are_ready_get_more_chances() -> None:
    world = World(1)
    task = make_task()
    world.tasks.append(task)
    world.tell(brain.Submit([task]))
    for _ in range(MAX_START_KILLS):
        assert task.state == QUEUED
        world.end(world.started[0], killed=True)
    assert world.ends == {id(task): BROKEN}


def test_one_worker_never_holds_two_started_tasks() -> None:
    world = World(1)
    tasks = [make_task() for _ in range(5)]
    world.tasks += tasks
    world.tell(brain.Submit(tasks))
    world.tell(brain.Shutdown())
    world.drain()
    assert world.closed and all(kind == RETURNED for kind in world.ends.values())
    assert max(len(world.inbox), 1) == 1


def test_after_a_decision_nobody_is_given_more_than_the_new_quota() -> None:
    world = World(2, 2)
    tasks = [make_task() for _ in range(2)]
    world.tasks += tasks
    world.tell(brain.Submit(tasks))
    for _ in range(2):
        world.ready()
    first = next(worker for worker in world.inbox if world.inbox[worker])
    world.begin(first)
    world.finish(first, RETURNED, 1e-6)  # so batches may grow
    world.tell(brain.Limit(1, None, False))  # and now nothing is known any more; `tell` validates
    world.drain()


def test_kinds_of_worker_states_are_what_the_picture_says() -> None:
    world = World(1)
    world.tell(brain.Submit([make_task()]))
    (worker,) = world.state.workers.values()
    assert worker.state is STARTING
    world.ready()
    assert worker.state is READY


def test_a_worker_takes_the_next_task_by_itself_only_where_that_is_all_there_is_to_do() -> None:
    world = World(1, batches=False)
    tasks = [make_task(), make_task(), make_task(timeout=1.0), make_task()]
    world.tasks += tasks
    world.tell(brain.Submit(tasks))
    world.ready()
    (worker,) = world.inbox
    record = world.state.workers[worker]
    world.begin(worker)
    assert world.state._exchange(record, 99) is None, "that is not what it runs"
    world.exchange(worker)
    assert world.ends == {id(tasks[0]): RETURNED} and record.assigned == {record.last: tasks[1]}
    world.begin(worker)
    assert world.running[worker] is not None
    assert world.state._exchange(record, world.running[worker]) is None, "the next one has a time-out to be watched"
    world.exchange(worker)
    assert world.looks == [worker]
    world.drain()
    assert set(world.ends.values()) == {RETURNED} and len(world.ends) == 4


def test_an_idle_worker_is_given_a_task_and_has_returned_it_without_the_rules() -> None:
    world = World(2)
    assert not world.place(make_task()), "a worker has to be started"
    world.ready()
    (worker,) = world.inbox
    world.begin(worker)
    assert world.returns(worker, 1e-6)
    for _ in range(3):
        assert world.place(make_task())
        assert not world.state._open or world.state._low > 1
        world.begin(worker)
        assert world.returns(worker, 1e-6)
    assert world.state.done == 4 and world.state._mean > 0
    assert not world.place(make_task(timeout=1.0)), "its time-out has to be watched"
    world.drain()
    assert world.place(make_task())
    world.begin(worker)
    first = world.tasks[-1]
    assert not world.place(make_task()), "nobody is idle"
    assert not world.returns(worker, 1e-6) and first.state == DONE, "another one may have to be given out"
    world.drain()
    task = make_task()
    world.state._post(True)
    assert world.state._place(task) is None, "something was submitted before it"
    world.state._post(False)
    world.tell(brain.Shutdown())
    assert world.state._place(task) is None, "it is shut down"
    world.drain()
    assert set(world.ends.values()) == {RETURNED} and len(world.ends) == len(world.tasks)


def test_a_task_joins_the_queue_by_itself_only_while_nobody_could_have_it() -> None:
    world = World(1, batches=False)
    first, second = make_task(), make_task()
    world.tasks += [first, second]
    lock = Lock()
    assert not world.state.offer(lock, first), "a worker has to be started"
    world.tell(brain.Submit([first]))
    with lock:
        assert not world.state.offer(lock, second), "the lock is held"
    assert world.state.offer(lock, second) and not lock.locked()
    world.tell(brain.Shutdown())
    assert not world.state.offer(lock, make_task())
    world.drain()
    assert world.ends == {id(first): RETURNED, id(second): RETURNED}


def test_a_worker_that_was_revoked_while_it_was_to_be_killed_may_start_again() -> None:
    state = State(1, stoppable=True)
    task = Task(Call(print, (), None), Recorder(), 1, task_options(timeout=1.0))
    state.handle(brain.Submit([task]))
    assert any(isinstance(each, brain.Send) for each in state.handle(brain.Ready(1)))
    assert brain.Revoke(1) in state.handle(brain.Lend(1, 1))
    assert brain.KillWorker(1, 1) in state.handle(brain.Looked(1, 1, 10.0))
    state.handle(brain.Lend(1, -1))
    done = state.handle(brain.Revoked(1, 0))  # it had not begun with it
    done += state.handle(brain.Spared(1, None, 0.0))
    done += state.handle(brain.Skipped(1, [1]))
    state.validate()
    kinds = [type(each) for each in done if isinstance(each, (brain.Restore, brain.Send))]
    assert kinds == [brain.Restore, brain.Send], "it would pass over what it is given, for ever"
