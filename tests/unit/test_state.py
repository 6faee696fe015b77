"""The brain alone: arbitrary orders of events, no process, no thread, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from treadle.pool import state as brain
from treadle.pool.state import READY, STARTING, State
from treadle.pool.task import (
    ASSIGNED,
    BROKEN,
    CANCELLED,
    DIED,
    DONE,
    QUEUED,
    RAISED,
    RETURNED,
    TIMED_OUT,
    Call,
    Task,
)


class Recorder:
    def deliver(self, task: Task, kind: int, data: Any) -> None:
        raise AssertionError("the brain delivers nothing by itself")


def make_task(timeout: float | None = None, retries: int = 0) -> Task:
    return Task(Call(print, (), None), Recorder(), None, timeout, retries)


class World:
    """Plays driver and engine: keeps what was said, and knows what a real worker could answer."""

    def __init__(self, workers: int, starts: int | None = None) -> None:
        self.state = State(workers, starts)
        self.limit = workers
        self.tasks: list[Task] = []
        self.ends: dict[int, int] = {}  # id(task) -> kind; each task once
        self.inbox: dict[int, list[int]] = {}  # worker -> sequence numbers sent and not yet run, in order
        self.running: dict[int, int | None] = {}
        self.revoked: dict[int, int | None] = {}  # worker -> nothing above this may start
        self.started: list[int] = []  # starting
        self.stopping: list[int] = []
        self.killing: list[tuple[int, int | None]] = []
        self.looks: list[int] = []
        self.starts_of: dict[int, int] = {}  # id(task) -> attempts that really began
        self.seqs: dict[int, Task] = {}
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
                self.started.append(worker)
            case brain.Send(worker, batch):
                assert worker in self.inbox, "sent to a worker that is gone"
                assert worker not in self.started, "sent to a worker that is not ready"
                assert worker not in self.stopping, "sent to a worker that was told to leave"
                for seq, task in batch:
                    assert seq not in self.seqs, "a sequence number was used twice"
                    self.seqs[seq] = task
                    self.inbox[worker].append(seq)
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
                current = self.running[worker] or 0
                self.revoked[worker] = current
                for more in self.state.handle(brain.Revoked(worker, current)):
                    self.do(more)
            case brain.Restore(worker):
                self.revoked[worker] = None
            case brain.Watch(worker, seconds):
                assert seconds >= 0
                self.looks.append(worker)
            case brain.Settle(ends):
                for task, kind, _ in ends:
                    assert id(task) not in self.ends, "a task ended twice"
                    assert task.state == DONE
                    self.ends[id(task)] = kind
            case brain.Close():
                self.closed += 1
            case _:
                raise AssertionError(instruction)

    def check(self) -> None:
        assert len(self.inbox) - len(self.stopping) <= self.limit or self.state.killing
        for task in self.tasks:
            assert (task.state == DONE) == (id(task) in self.ends)
            assert self.starts_of.get(id(task), 0) <= task.retries + 1, "an attempt too many"
            kind = self.ends.get(id(task))
            if kind == CANCELLED and not self.state.killing:
                assert self.starts_of.get(id(task), 0) == 0 or task.retries

    # what a worker can do

    def ready(self) -> None:
        self.tell(brain.Ready(self.started.pop(0)))

    def begin(self, worker: int) -> None:
        """It takes the next task from its inbox: starts it, or passes over a revoked one."""
        seq = self.inbox[worker].pop(0)
        limit = self.revoked[worker]
        if limit is not None and seq > limit:
            self.tell(brain.Skipped(worker, [seq]))
            return
        self.running[worker] = seq
        task = self.seqs[seq]
        self.starts_of[id(task)] = self.starts_of.get(id(task), 0) + 1

    def finish(self, worker: int, kind: int, seconds: float) -> None:
        seq = self.running[worker]
        assert seq is not None
        self.running[worker] = None
        self.tell(brain.Finished(worker, [(seq, kind, None, int(seconds * 1e9), 0)]))

    def end(self, worker: int) -> None:
        running = self.running.pop(worker)
        del self.inbox[worker], self.revoked[worker]
        self.waiting = [each for each in self.waiting if each != worker]
        for group in (self.started, self.stopping):
            if worker in group:
                group.remove(worker)
        self.killing = [each for each in self.killing if each[0] != worker]
        self.tell(brain.Ended(worker, running, None, "test"))

    def drain(self) -> None:
        """Let everything that can happen happen."""
        for _ in range(10_000):
            if self.killing:
                self.end(self.killing[0][0])
            elif self.started:
                self.ready()
            elif any(self.running[w] is not None for w in self.inbox):
                self.finish(next(w for w in self.inbox if self.running[w] is not None), RETURNED, 0.001)
            elif any(self.inbox.values()):
                self.begin(next(w for w in self.inbox if self.inbox[w]))
            elif self.stopping:
                self.end(self.stopping[0])
            else:
                return
        raise AssertionError("it never comes to rest")


class Machine(RuleBasedStateMachine):
    """Arbitrary orders of everything."""

    @initialize(workers=st.integers(1, 4), starts=st.none() | st.integers(1, 5))
    def begin_world(self, workers: int, starts: int | None) -> None:
        self.world = World(workers, starts)
        self.gated = starts is not None
        self.workers = workers

    def pick(self, data: st.DataObject, things: list[Any]) -> Any:
        return data.draw(st.sampled_from(things))

    @precondition(lambda self: not self.world.state.closing)
    @rule(
        count=st.integers(1, 6),
        timeout=st.sampled_from([None, None, 0.5, 3.0]),
        retries=st.integers(0, 2),
    )
    def submit(self, count: int, timeout: float | None, retries: int) -> None:
        tasks = [make_task(timeout, retries) for _ in range(count)]
        self.world.tasks += tasks
        self.world.tell(brain.Submit(tasks))

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
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.05, 1.0, 10.0]))
    def somebody_looks(self, data: st.DataObject, seconds: float) -> None:
        worker = self.pick(data, list(self.world.inbox))
        self.world.tell(brain.Looked(worker, self.world.running[worker], seconds))

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.world.tasks), min_size=1, max_size=5, unique_by=id))
        before = [(task, task.state) for task in some]
        self.world.tell(brain.Cancel(some))
        for task, was in before:
            assert task.state == (DONE if was in (QUEUED, DONE) else ASSIGNED)
            if was == QUEUED:
                assert self.world.ends[id(task)] == CANCELLED

    @precondition(lambda self: self.gated)
    @rule(workers=st.integers(1, 4), replace=st.booleans())
    def decide(self, workers: int, replace: bool) -> None:
        self.gated = False
        self.workers = workers
        self.allow()
        self.world.tell(brain.Limit(workers, None, replace))

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
            world.tell(brain.Limit(self.workers, None, False))
        world.tell(brain.Shutdown())
        world.drain()
        assert world.closed == 1, "it does not close"
        assert {id(t) for t in world.tasks} == set(world.ends)
        state = world.state
        assert state.done + state.failed + state.cancelled == len(world.tasks)


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
    for _ in range(brain.MAX_START_FAILURES):
        assert task.state == QUEUED
        world.end(world.started[0])
    assert world.ends == {id(task): BROKEN}
    again = make_task()
    world.tasks.append(again)
    world.tell(brain.Submit([again]))
    world.drain()
    assert world.ends[id(again)] == RETURNED


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
