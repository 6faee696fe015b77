"""Start in processes, measure, and go on with what fits.

The first calls run in processes because there they can be measured undisturbed by each other and by the interpreter
lock, and because a call that crashes does not take the program with it.  They run for real: their results count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..._native import _core
from ...errors import TaskNotPicklable, describe_exit
from ..cpus import available_cpus, interpreter_lock
from ..decision import EARLY_SECONDS, PROBES, Decision, Measure
from ..events import Result
from ..failures import BadStart, Exit
from ..options import PoolOptions, TaskOptions
from ..reactor import Reactor
from ..task import Call, Task
from .base import Engine, Listener, Look, Memo
from .processes import ProcessEngine
from .threads import ThreadEngine


class Pool(Listener, Protocol):
    """What this engine needs from the driver beyond listening."""

    limit: int

    def retarget(self, workers: int | None = None, starts: int | None = None, replace: bool = False) -> None: ...


class AutoEngine:
    """An engine that is two engines, one after the other."""

    def __init__(self, pool: Pool, reactor: Reactor, start_method: str = "forkserver") -> None:
        self._pool = pool
        self._reactor = reactor
        self._processes = ProcessEngine(self, reactor, start_method)
        self._threads = ThreadEngine(pool, reactor)
        self._in_processes: set[int] = set()  # workers; threads report straight to the pool
        self._lock = threading.Lock()  # guards: decision, _measure.  A leaf
        self._measure = Measure()
        self.decision: Decision | None = None
        # So many calls may start before the choice: enough that no worker idles while the last ones are measured.
        self.probes: int | None = PROBES + available_cpus()
        self._now: Engine = self._processes
        self._started = False  # was any worker?
        if not interpreter_lock():
            self.decision = Decision("threads", "this Python has no global interpreter lock")
            self._now, self.probes = self._threads, None
        else:
            self._processes.measure = True

    @property
    def limit(self) -> int:
        """How many workers there may be."""
        return self._pool.limit

    @property
    def plate(self) -> int:
        """The pool's record on the board."""
        return self._pool.plate

    @property
    def name(self) -> str:
        """The engine that new work goes to."""
        return self._now.name

    @property
    def batches(self) -> bool:
        """While it measures, one task at a time."""
        return self.decision is not None and self._now.batches

    def _decide(self, decision: Decision) -> None:
        """Once."""
        with self._lock:
            if self.decision is not None:
                return
            threads = decision.engine == "threads"
            if threads and getattr(threading, "_SHUTTING_DOWN", False):
                # The program is ending while its work is being finished.  Python 3.12 starts no more threads then.
                threads = False
                decision = Decision("processes", f"{decision.reason}, but the program is about to end")
            self.decision = decision
            self._processes.measure = False
            if threads:
                self._now = self._threads
        # Without the lock: much may follow from it.  What comes in between for the wrong engine, `send` gives back; and
        # nobody calls `renew` meanwhile, for the pool is in use.
        self._pool.retarget(starts=None, replace=threads)

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        if self._now is self._threads:
            return self._threads.encode(fn, args, kwargs, memo)
        try:
            return self._processes.encode(fn, args, kwargs, memo)
        except TaskNotPicklable as error:
            self._decide(Decision("threads", str(error)))
            if self._now is self._threads:
                return self._threads.encode(fn, args, kwargs, memo)
            raise

    @property
    def keep(self) -> int:
        """As that engine says."""
        return self._now.keep

    @property
    def stoppable(self) -> bool:
        """As that engine says."""
        return self._now.stoppable

    def configure(self, options: PoolOptions) -> None:
        if options.max_memory_per_worker is not None:
            self._require_processes("max_memory_per_worker")
        else:
            self._threads.configure(options)
        try:
            self._processes.configure(options)
        except TaskNotPicklable as error:
            self._decide(Decision("threads", str(error)))
            if self._now is self._processes:
                raise

    def accept(self, options: TaskOptions) -> None:
        if options.memory_limit is not None:
            self._require_processes("memory_limit")
        if options.stream and self.decision is None:
            self._decide(Decision("processes", "calls that stream can't be measured"))
        self._now.accept(options)

    def _require_processes(self, option: str) -> None:
        """There is something that only processes can keep."""
        decision = Decision("processes", f"{option} was asked for")
        self._decide(decision)
        with self._lock:
            if self._started or self._now is self._processes:
                return
            # This Python has no global lock, and nothing has been started yet.
            self.decision = decision
            self._now = self._processes
        self._pool.retarget(starts=None, replace=True)

    def renew(self) -> None:
        with self._lock:
            if self.probes is None:  # there is nothing to choose
                return
            threads = self._now is self._threads
            self._measure = Measure()
            self.decision = None
            self._now = self._processes
            self._processes.measure = True
        self._pool.retarget(starts=self.probes, replace=threads)

    @property
    def known(self) -> dict[int, _core.Known] | None:
        """As processes say, once they were chosen."""
        return self._processes.known if self.decision is not None and self._now is self._processes else None

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        return self._now.model(memo) if self.decision is not None else None

    def default_workers(self) -> int:
        return self._now.default_workers() if self.decision is not None else available_cpus()

    def prepare(self) -> None:
        self._now.prepare()

    def start(self, worker: int) -> None:
        self._started = True
        engine = self._now
        if engine is self._processes:
            self._in_processes.add(worker)
        engine.start(worker)

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        if self.decision is None:
            self._reactor.call_later(EARLY_SECONDS, self._sample)
        if worker in self._in_processes:
            # A call that can't be pickled, which came between the choice of threads and the brain's learning of it.
            strays = [seq for seq, task in batch if task.call.payload is None]
            if strays:
                self._reactor.call_soon(lambda: self._pool.skipped(worker, strays))
                batch = [(seq, task) for seq, task in batch if task.call.payload is not None]
        self._engine(worker).send(worker, batch)

    def _sample(self) -> None:
        with self._lock:
            if self.decision is not None:
                return
            times = [self._processes.call_times(worker) for worker in list(self._in_processes)]
            running = [each for each in times if each is not None]
            decision = self._measure.sample(running)
        if decision is not None:
            self._decide(decision)
        elif running:
            self._reactor.call_later(EARLY_SECONDS, self._sample)

    def stop(self, worker: int) -> None:
        self._engine(worker).stop(worker)

    def kill(self, worker: int, seq: int | None) -> None:
        self._engine(worker).kill(worker, seq)

    def look(self, worker: int) -> Look:
        return self._engine(worker).look(worker)

    def revoke(self, worker: int) -> int:
        return self._engine(worker).revoke(worker)

    def restore(self, worker: int) -> None:
        self._engine(worker).restore(worker)

    def pause(self, worker: int) -> None:
        self._processes.pause(worker)  # a thread waits by itself

    def resume(self, worker: int) -> None:
        self._processes.resume(worker)

    def pid(self, worker: int) -> int | None:
        return self._engine(worker).pid(worker)

    def lane(self, worker: int) -> _core.Lane | _core.Seat | None:
        return self._engine(worker).lane(worker)

    def current_worker(self) -> int | None:
        return self._threads.current_worker()

    def close(self) -> None:
        self._processes.close()
        self._threads.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._processes.after_fork()
        self._threads.after_fork()

    def _engine(self, worker: int) -> Engine:
        return self._processes if worker in self._in_processes else self._threads

    # -- what the process engine reports (the thread engine reports straight to the pool)

    def ready(self, worker: int) -> None:
        self._pool.ready(worker)

    def shortcut(self, worker: int) -> tuple[Any, Any, Any] | None:
        return self._pool.shortcut(worker)

    def finished(self, worker: int, results: Sequence[Result]) -> None:
        if self.decision is None:
            with self._lock:
                decisions = [self._measure.add(worker, wall / 1e9, cpu / 1e9) for _, _, _, wall, cpu in results]
            for decision in decisions:
                if decision is not None:
                    self._decide(decision)
        self._pool.finished(worker, results)

    def yielded(self, worker: int, seq: int, items: list[Any]) -> None:
        self._pool.yielded(worker, seq, items)

    def skipped(self, worker: int, seqs: list[int]) -> None:
        self._pool.skipped(worker, seqs)

    def spared(self, worker: int, look: Look) -> None:
        self._pool.spared(worker, look)

    def swollen(self, worker: int) -> None:
        self._pool.swollen(worker)

    def ended(self, worker: int, running: int | None, exit: Exit, reason: str | BadStart) -> None:
        self._in_processes.discard(worker)
        if running is not None and self.decision is None and exit.exitcode is not None:
            how = describe_exit(exit.exitcode)
            self._decide(
                Decision("processes", f"a worker {how} in one of the first calls, which a thread can't survive")
            )
        self._pool.ended(worker, running, exit, reason)
