"""The only place that performs the brain's instructions.

Decide under the lock, act outside it: every event goes through `_handle`, which asks the brain under `_lock` and then
does what it says in the thread that brought the event.  Two threads may therefore act in another order than they
decided; every instruction is such that this does no harm (each module says why, where it is not plain).
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import sync
from .._native import _core
from ..errors import PoolClosed
from . import events as brain
from .crew import Worker
from .engines.base import Engine, Look
from .events import Event, Instruction, Result
from .failures import BadStart, Exit
from .options import PLAIN, PoolOptions
from .reactor import Reactor
from .results import worth_a_retry
from .state import State
from .task import CANCELLED, DONE, PART, Task
from .waits import in_main_thread, wait

# Seconds.  Where a worker has work for longer than that, its results are collected for so long: one wake-up then
# serves many small tasks, and nobody who waits notices.
NAP = 0.0003
NAP_MOST = 0.001  # with very much work in stock

FAR = 32

EngineFactory = Callable[["Driver", Reactor], Engine]


TERMINATE_SECONDS = 1.0  # how long the orderly way to kill everything may take before the other one is taken


class Driver:
    """A brain, an engine and a reactor.  Every method may be called from any thread.

    A signal handler may raise between any two steps of the main thread.  It must not hold a lock of ours then, nor have
    decided something and not done it.  So what the main thread wants is posted, which is one atomic step, and the
    reactor's thread does it.
    """

    def __init__(
        self,
        factory: EngineFactory,
        workers: int | None,
        name: str,
        on_closed: Callable[[Driver], None],
        options: PoolOptions = PLAIN,
    ) -> None:
        self.reactor = Reactor(name)
        self.closed = sync.Event()  # set when no task and no worker is left
        self._lock = sync.Lock()  # guards: _state.  Rank: the first; nothing is called under it but the brain.
        self._finishing = sync.Lock()  # guards: _finished_once
        self._finished_once = False
        self.engine = factory(self, self.reactor)
        self._workers = workers
        self._pid = os.getpid()
        self._on_closed = on_closed
        self.limit = workers or self.engine.default_workers()  # workers at most
        starts = getattr(self.engine, "probes", None)
        self.plate = 0  # the number of the pool's record on the board; 0: none, or not yet
        engine, crew = self.engine, self._crew(starts)
        self._state = State(crew, starts, engine.batches, options, engine.keep, engine.stoppable)
        # What was submitted by the main thread, or as a simple call, and is not taken in yet; it is closed at first.
        self.desk = _core.Desk(self, self._state, self._lock, self._rouse)
        self._simple = False  # was it opened?
        stock = getattr(self.engine, "stock_seconds", 0.0)
        if stock:  # its workers are far away: they need more in stock, so that they are not idle while results travel
            self._state.stock_seconds, self._state.least_stock = stock, 2
        # A map's window grows when less than so many items a worker are unfinished.
        self.reach = FAR if stock else 1
        # What an engine without workers of its own has the submitting thread do.
        self._attend: Callable[[list[Task]], None] | None = getattr(self.engine, "attend", None)
        # Does `Future.cancel` end a call that runs already, where the engine can?
        self.cancel_running = True
        self._actions: dict[type, Callable[[Any], None]] = {
            brain.StartWorker: lambda i: self.engine.start(i.worker),
            brain.Send: lambda i: self.engine.send(i.worker, i.batch),
            brain.StopWorker: lambda i: self.engine.stop(i.worker),
            brain.KillWorker: self._kill,
            brain.Revoke: self._revoke,
            brain.Restore: lambda i: self.engine.restore(i.worker),
            brain.Watch: self._watch,
            brain.Judge: self._judge,
            brain.Delay: self._delay,
            brain.Hand: self._hand,
            brain.Doze: lambda i: self.reactor.call_later(i.seconds, lambda: self._handle(brain.Aged())),
            brain.Settle: lambda i: _settle(i.ends),
            brain.Close: lambda i: self._finish(),
        }
        if options is not PLAIN:
            self.engine.configure(options)
        self._name = name
        # The record on the board where the brain says how it stands, for whoever looks from outside; 0: there is none.
        self.plate = self._state._show(name, self.engine.name, self.limit)

    # -- what a pool asks for

    def submit(self, tasks: list[Task]) -> bool:
        """Take tasks in; False (and nothing has happened) if the pool is shut down."""
        if self._state.closing:
            return False
        self.reactor.start()  # if it can't be had, better now than when the task is already taken
        self.engine.prepare()
        if not self._simple and (known := getattr(self.engine, "known", None)) is not None:
            self._simple = True
            self.desk.open(known)  # what is needed is there: from now on simple calls need not come by here
        # An idle worker has it at once.  With all of them busy it joins the queue, behind what was submitted before.
        if len(tasks) == 1 and self._state.offer(self._lock, tasks[0]):
            if self._attend is not None:
                self._attend(tasks)
            return True
        if in_main_thread():
            self.desk.leave(tasks)
        else:
            self._handle(brain.Submit(tasks))
        if self._attend is not None:
            self._attend(tasks)
        return True

    def fetch(self, future: _core.FutureCore, timeout: float | None) -> bool:
        """Wait for a moment where the future's worker puts its value; True if the future is finished by this.

        False, after a while or at once: it is to be waited for in the ordinary way.
        """
        if self._pid != os.getpid() or self.reactor.in_thread or self.engine.current_worker() is not None:
            return False
        return self._state.fetch(self._lock, future, timeout)

    def warm(self) -> None:
        """Start all workers now, not when there is work for them.  Does not wait for them."""
        self.reactor.start()
        self.engine.prepare()
        self._tell(brain.Warm())

    def _rouse(self) -> None:
        """There is something at the desk."""
        self.desk.roused = True  # before it can be taken: who takes it says that this holds no more
        try:
            self.reactor.call_soon(self._take)
        except BaseException:
            self.desk.roused = False
            raise

    def _take(self) -> None:
        """Take in all that waits at the desk."""
        with self._lock:
            instructions = self._absorb()
        self._perform(instructions)

    def _absorb(self) -> list[Instruction]:
        """The same with the lock held: what was submitted before an event is handled before it."""
        if not self.desk.any:
            return []
        return self._state.handle(brain.Submit(self.desk.take()))

    def refusal(self) -> PoolClosed:
        """Why it takes no tasks."""
        if self._pid != os.getpid():
            return PoolClosed(f"this pool belongs to process {self._pid}, of which this one is a fork; make a new one")
        return PoolClosed("cannot submit to a pool that was shut down")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Around a wait for a task of this pool.

        Raises instead of waiting where it would be for ever.  In one of the pool's own threads, another worker may
        run meanwhile, so that nested work can't starve.
        """
        if self._pid != os.getpid():
            raise self.refusal()
        if self.reactor.in_thread:
            raise RuntimeError(f"a callback of a pool can't wait for a {what} of the same pool")
        worker = self.engine.current_worker()
        if worker is None:
            yield
            return
        self._soon(lambda: self._handle(brain.Lend(worker, 1)))
        try:
            yield
        finally:
            self._soon(lambda: self._handle(brain.Lend(worker, -1)))

    @property
    def pace(self) -> float:
        """Seconds that a task, or an item of a run, takes of late; 0.0: not known.  A glance: without the lock."""
        return self._state.pace

    @property
    def owner(self) -> int:
        """The pid of the process that it belongs to."""
        return self._pid

    @property
    def closing(self) -> bool:
        """Does it take no more tasks?"""
        return self._state.closing

    def cancel(self, tasks: list[Task], running: bool = False) -> bool:
        """Drop them, those that run only with `running` or if it is the rule here (`cancel_running`).

        True if all of them have ended, by this or before.
        """
        self.drop(tasks, running or self.cancel_running)
        return all(task.state == DONE for task in tasks)

    def drop(self, tasks: list[Task], running: bool = False) -> None:
        """Drop those that have not started; with `running` also those that have, where the engine can."""
        self._tell(brain.Cancel(tasks, running))

    def recall(self, tasks: list[Task]) -> None:
        """Drop those that have not started, also out of what a worker has in stock."""
        self._tell(brain.Recall(tasks))

    def shutdown(self, cancel: bool = False, kill: bool = False) -> None:
        """Take no more tasks.  Does not wait; `closed` says when all is over."""
        self._tell(brain.Shutdown(cancel, kill))

    def terminate(self) -> None:
        """End everything now, by force, and return when it has ended."""
        self.shutdown(cancel=True, kill=True)
        if not wait(self.closed.wait, TERMINATE_SECONDS) and not self.reactor.in_thread:
            self.destroy()
        self.reactor.join(TERMINATE_SECONDS)

    def abandon(self) -> None:
        """End everything soon.  Takes no lock, so that a finalizer may call it."""
        self.reactor.call_soon(lambda: self.shutdown(cancel=True, kill=True))

    def _crew(self, starts: int | None) -> int:
        """How many workers there may be at first.  While an engine measures a few calls, more than it wants for these
        would only take longer to start, and each would load what the calls need."""
        return self.limit if starts is None else min(self.limit, self.engine.default_workers())

    def retarget(self, workers: int | None = None, starts: int | None = None, replace: bool = False) -> None:
        """The engine has changed its mind about how many workers there should be."""
        self.limit = self._workers or workers or self.engine.default_workers()
        engine = self.engine
        event = brain.Limit(self._crew(starts), starts, replace, engine.batches, engine.keep, engine.stoppable)

        def take_in() -> None:
            with self._lock:
                if self.plate:
                    self._state._show(self._name, engine.name, self.limit)
            self._handle(event)

        self._soon(take_in)

    def renew(self) -> None:
        """All its tasks have ended, and it is for somebody else now."""
        self._tell(brain.Renew())
        self.engine.renew()

    # -- what an engine reports (see engines/base.Listener)

    def ready(self, worker: int) -> None:
        lane = self.engine.lane(worker)
        with self._lock:
            record = self._state.workers.get(worker)
            if record is not None:
                record.lane = lane
        self._handle(brain.Ready(worker))

    def finished(self, worker: int, results: Sequence[Result]) -> None:
        with self._lock:
            instructions = self._absorb()
            instructions += self._state.handle(brain.Finished(worker, results))
            stock = self._state.stock(worker)
        if instructions:
            self._perform(instructions)
        if stock > 2 * NAP:
            nap = max(NAP, min(NAP_MOST, stock / 4))
            if nap * self.limit >= 2 * self.pace:  # else nothing is collected, and waking up costs, too
                self.reactor.nap = nap

    def shortcut(self, worker: int) -> tuple[sync.Lock, State, Worker] | None:
        """With what a worker's own thread may get its next task by itself; see `_core.Seat.run`."""
        with self._lock:
            record = self._state.workers.get(worker)
        return None if record is None else (self._lock, self._state, record)

    def yielded(self, worker: int, seq: int, items: list[Any]) -> None:
        self._handle(brain.Yielded(worker, seq, items))

    def skipped(self, worker: int, seqs: list[int]) -> None:
        self._handle(brain.Skipped(worker, seqs))

    def spared(self, worker: int, look: Look) -> None:
        self._handle(brain.Spared(worker, *look))

    def swollen(self, worker: int) -> None:
        self._handle(brain.Swollen(worker))

    def ended(self, worker: int, running: int | None, exit: Exit, reason: str | BadStart) -> None:
        hopeless = isinstance(reason, BadStart) and reason.hopeless
        self._handle(brain.Ended(worker, running, exit, reason, exit.killed, hopeless))

    # -- the loop

    def _tell(self, event: Event) -> None:
        """Have an event of the user's handled, and return when it is."""
        if not in_main_thread() or not self.reactor.running:
            self._handle(event)
            return
        handled = sync.Event()

        def handle() -> None:
            try:
                self._handle(event)
            finally:
                handled.set()

        self.reactor.call_soon(handle)
        wait(handled.wait)

    def _soon(self, job: Callable[[], None]) -> None:
        """Do it here; in the main thread, which may be interrupted between any two steps, leave it to the reactor."""
        if in_main_thread() and self.reactor.running:
            self.reactor.call_soon(job)
        else:
            job()

    def _handle(self, event: Event) -> None:
        with self._lock:
            instructions = self._absorb()
            instructions += self._state.handle(event)
        if instructions:
            self._perform(instructions)

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            try:
                self._actions[type(instruction)](instruction)
            except Exception:
                # A bug of ours, or no memory.  What the others wait for must still be done, and what was cut short is
                # made good by ending the worker that it was for: its tasks go back to the queue.
                sys.excepthook(*sys.exc_info())
                if isinstance(instruction, (brain.Send, brain.StopWorker, brain.Restore)):
                    with contextlib.suppress(Exception):
                        self.engine.kill(instruction.worker, None)

    def _kill(self, instruction: brain.KillWorker) -> None:
        worker, seq = instruction
        if seq is None or self.reactor.in_thread:
            self.engine.kill(worker, seq)
        else:  # it looks at what the worker has sent, and only the reactor may do that
            self.reactor.call_soon(lambda: self.engine.kill(worker, seq))

    def _judge(self, instruction: brain.Judge) -> None:
        task, kind, data = instruction
        again = False
        try:
            again = worth_a_retry(task, kind, data)
        except BaseException:
            # A filter of the user's that raises: it must be seen; and the task fails with what it has raised itself.
            sys.excepthook(*sys.exc_info())
        self._handle(brain.Judged(task, again, kind, data))

    def _hand(self, instruction: brain.Hand) -> None:
        task, worker, items = instruction
        if task.sink.hand(items, lambda: self.reactor.call_soon(lambda: self.engine.resume(worker))):
            self.engine.pause(worker)

    def _delay(self, instruction: brain.Delay) -> None:
        task, seconds = instruction
        # Not all at the same moment: what failed together would come back together.
        self.reactor.call_later(seconds * random.uniform(0.5, 1.0), lambda: self._handle(brain.Due(task)))

    def _revoke(self, instruction: brain.Revoke) -> None:
        after = self.engine.revoke(instruction.worker)
        self._handle(brain.Revoked(instruction.worker, after))

    def _watch(self, instruction: brain.Watch) -> None:
        def look() -> None:
            self._state._watching(-1)
            self._look(instruction.worker)

        self._state._watching(1)
        self.reactor.call_later(instruction.seconds, look)

    def _look(self, worker: int) -> None:
        self._handle(brain.Looked(worker, *self.engine.look(worker)))

    def _finish(self) -> None:
        with self._finishing:
            if self._finished_once:
                return
            self._finished_once = True
        with self._lock:
            self._state._hide()
        self.engine.close()
        self.reactor.stop()
        self._on_closed(self)
        self.closed.set()

    # -- ends

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until everything has ended; True if so.

        Raises RuntimeError where that would mean to wait for oneself: in a callback, or in one of its own threads.
        """
        if not self.closed.is_set() and (self.reactor.in_thread or self.engine.current_worker() is not None):
            raise RuntimeError("a pool can't be waited for in one of its own threads")
        done = wait(self.closed.wait, timeout)
        if done:
            self.reactor.join(timeout)
        return done

    def destroy(self) -> None:
        """The hard end, for when something of ours has failed: kill all, then end every task that is still known."""
        self.reactor.stop()
        self.reactor.join(1.0)  # so that nobody else uses what is closed now
        with contextlib.suppress(Exception):
            self.engine.close()
        left: list[tuple[Task, int, Any]] = []
        with self._lock:
            known = [t for w in self._state.workers.values() for t in w.assigned.values()]
            known += self.desk.take()
            for task in [*known, *self._state.queue, *self._state.waiting]:
                if task.state != DONE:
                    task.state = DONE
                    how = (PART, task.ended(CANCELLED, None, task.count - task.done)) if task.run else (CANCELLED, None)
                    left.append((task, *how))
            self._state.queue.clear()
            self._state.waiting.clear()
            self._state.queued = 0
            self._state.workers.clear()
            self._state.closing = self._state.killing = self._state.closed = True
            self._state._express = self._state._saturated = self._state._direct = False
        _settle(left)
        self._finish()

    def after_fork(self) -> None:
        """In a forked child: all this is the parent's."""
        self._lock, self._finishing = sync.Lock(), sync.Lock()
        self._state.closing = True
        self.desk.open(None)
        # The epoll object is shared with the parent: what is removed from it here would be removed there as well.
        self.reactor.after_fork()
        self.engine.after_fork()
        self.closed.set()

    # -- a look from outside

    def snapshot(self) -> tuple[State, list[tuple[int, str, int | None, Task | None, float]]]:
        """The brain (read only), and of each worker: number, state, pid, task that it runs, for how many seconds."""
        with self._lock:
            held = [(w.id, w.state, dict(w.assigned)) for w in self._state.workers.values()]
        rows = []
        for id, kind, assigned in held:
            look = self.engine.look(id)
            task = assigned.get(look.running) if look.running is not None else None
            rows.append((id, kind, self.engine.pid(id), task, look.seconds if task else 0.0))
        return self._state, rows


def _deliver(task: Task, kind: int, data: Any) -> None:
    """What `_core.settle` does not do itself."""
    try:
        task.sink.deliver(task, kind, data)
    except BaseException:
        # A sink of ours does not raise; a user's may.  The others must still get theirs.
        sys.excepthook(*sys.exc_info())


_settle = _core.settle
_core.hook("deliver", _deliver)
