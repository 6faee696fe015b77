"""The only place that performs the brain's instructions.

Decide under the lock, act outside it: every event goes through `_handle`, which asks the brain under `_lock` and then
does what it says in the thread that brought the event.  Two threads may therefore act in another order than they
decided; every instruction is such that this does no harm (each module says why, where it is not plain).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import sync
from ..errors import PoolClosed
from . import events as brain
from .engines.base import Engine, Look
from .events import Event, Instruction, Result
from .failures import Exit
from .reactor import Reactor
from .state import State
from .task import CANCELLED, DONE, Task
from .waits import in_main_thread, wait

# Seconds.  Where a worker has work for longer than that, its results are collected for so long: one wake-up then
# serves many small tasks, and nobody who waits notices.
NAP = 0.0003

EngineFactory = Callable[["Driver", Reactor], Engine]


TERMINATE_SECONDS = 1.0  # how long the orderly way to kill everything may take before the other one is taken


class Driver:
    """A brain, an engine and a reactor.  Every method may be called from any thread.

    A signal handler may raise between any two steps of the main thread.  It must not hold a lock of ours then, nor have
    decided something and not done it.  So what the main thread wants is posted, which is one atomic step, and the
    reactor's thread does it.
    """

    def __init__(
        self, factory: EngineFactory, workers: int | None, name: str, on_closed: Callable[[Driver], None]
    ) -> None:
        self.reactor = Reactor(name)
        self.closed = sync.Event()  # set when no task and no worker is left
        self._lock = sync.Lock()  # guards: _state.  Rank: the first; nothing is called under it but the brain.
        self._submitted: deque[list[Task]] = deque()  # by the main thread, and not taken in yet
        self._finishing = sync.Lock()  # guards: _finished_once
        self._finished_once = False
        self.engine = factory(self, self.reactor)
        self._workers = workers
        self._pid = os.getpid()
        self._on_closed = on_closed
        self.limit = workers or self.engine.default_workers()  # workers at most
        starts = getattr(self.engine, "probes", None)
        self._state = State(self.limit, starts, self.engine.batches)
        self._actions: dict[type, Callable[[Any], None]] = {
            brain.StartWorker: lambda i: self.engine.start(i.worker),
            brain.Send: lambda i: self.engine.send(i.worker, i.batch),
            brain.StopWorker: lambda i: self.engine.stop(i.worker),
            brain.KillWorker: lambda i: self.engine.kill(i.worker, i.seq),
            brain.Revoke: self._revoke,
            brain.Restore: lambda i: self.engine.restore(i.worker),
            brain.Watch: self._watch,
            brain.Settle: lambda i: _settle(i.ends),
            brain.Close: lambda i: self._finish(),
        }

    # -- what a pool asks for

    def submit(self, tasks: list[Task]) -> bool:
        """Take tasks in; False (and nothing has happened) if the pool is shut down."""
        if self._state.closing:
            return False
        self.reactor.start()  # if it can't be had, better now than when the task is already taken
        self.engine.prepare()
        if in_main_thread():
            self._submitted.append(tasks)
            self.reactor.call_soon(self._take)
        else:
            self._handle(brain.Submit(tasks))
        return True

    def _take(self) -> None:
        """Take in all that the main thread has submitted since."""
        tasks: list[Task] = []
        while self._submitted:
            tasks += self._submitted.popleft()
        if tasks:
            self._handle(brain.Submit(tasks))

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
        self._handle(brain.Lend(worker, 1))
        try:
            yield
        finally:
            self._handle(brain.Lend(worker, -1))

    @property
    def closing(self) -> bool:
        """Does it take no more tasks?"""
        return self._state.closing

    def cancel(self, tasks: list[Task]) -> bool:
        """Drop those that have not started; True if all of them have ended, by this or before."""
        self.drop(tasks)
        return all(task.state == DONE for task in tasks)

    def drop(self, tasks: list[Task]) -> None:
        """Drop those that have not started."""
        self._tell(brain.Cancel(tasks))

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

    def retarget(self, workers: int | None = None, starts: int | None = None, replace: bool = False) -> None:
        """The engine has changed its mind about how many workers there should be."""
        self.limit = self._workers or workers or self.engine.default_workers()
        event = brain.Limit(self.limit, starts, replace, self.engine.batches)
        if in_main_thread() and self.reactor.running:
            self.reactor.call_soon(lambda: self._handle(event))
        else:
            self._handle(event)

    # -- what an engine reports (see engines/base.Listener)

    def ready(self, worker: int) -> None:
        self._handle(brain.Ready(worker))

    def finished(self, worker: int, results: Sequence[Result]) -> None:
        with self._lock:
            instructions = self._state.handle(brain.Finished(worker, results))
            stock = self._state.stock(worker)
        if instructions:
            self._perform(instructions)
        if stock > 2 * NAP:
            self.reactor.nap = NAP

    def skipped(self, worker: int, seqs: list[int]) -> None:
        self._handle(brain.Skipped(worker, seqs))

    def spared(self, worker: int, look: Look) -> None:
        self._handle(brain.Spared(worker, *look))

    def ended(self, worker: int, running: int | None, exit: Exit, reason: str) -> None:
        self._handle(brain.Ended(worker, running, exit, reason))

    # -- the loop

    def _tell(self, event: Event) -> None:
        """Have an event of the user's handled, and return when it is."""
        if not in_main_thread() or not self.reactor.running:
            self._take()
            self._handle(event)
            return
        handled = sync.Event()

        def handle() -> None:
            try:
                self._take()
                self._handle(event)
            finally:
                handled.set()

        self.reactor.call_soon(handle)
        wait(handled.wait)

    def _handle(self, event: Event) -> None:
        with self._lock:
            instructions = self._state.handle(event)
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

    def _revoke(self, instruction: brain.Revoke) -> None:
        after = self.engine.revoke(instruction.worker)
        self._handle(brain.Revoked(instruction.worker, after))

    def _watch(self, instruction: brain.Watch) -> None:
        self.reactor.call_later(instruction.seconds, lambda: self._look(instruction.worker))

    def _look(self, worker: int) -> None:
        self._handle(brain.Looked(worker, *self.engine.look(worker)))

    def _finish(self) -> None:
        with self._finishing:
            if self._finished_once:
                return
            self._finished_once = True
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
            while self._submitted:
                known += self._submitted.popleft()
            for task in [*known, *self._state.queue]:
                if task.state != DONE:
                    task.state = DONE
                    left.append((task, CANCELLED, None))
            self._state.queue.clear()
            self._state.queued = 0
            self._state.workers.clear()
            self._state.closing = self._state.killing = self._state.closed = True
        _settle(left)
        self._finish()

    def after_fork(self) -> None:
        """In a forked child: all this is the parent's."""
        self._lock = sync.Lock()
        self._state.closing = True
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


def _settle(ends: list[tuple[Task, int, Any]]) -> None:
    for task, kind, data in ends:
        try:
            task.sink.deliver(task, kind, data)
        except BaseException:
            # A sink of ours does not raise; a user's may.  The others must still get theirs.
            sys.excepthook(*sys.exc_info())
