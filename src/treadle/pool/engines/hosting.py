"""Between the pool and an engine of the public interface (`guest.py`)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...errors import Unsupported
from ..abilities import Abilities
from ..calls import CallTable
from ..events import Result
from ..failures import BadStart, Exit, title
from ..functions import Function
from ..options import PoolOptions, TaskOptions
from ..payloads import shares
from ..reactor import Reactor
from ..task import RAISED, Call, Task
from .base import Listener, Look, Memo
from .guest import Engine, Order, Work


class Driver(Listener, Protocol):
    """What this engine needs from the driver beyond listening."""

    def retarget(self, workers: int | None = None, starts: int | None = None, replace: bool = False) -> None: ...


class _Worker:
    """One that was asked for."""

    def __init__(self) -> None:
        self.held: dict[int, float | None] = {}  # sequence numbers in the order of running, and their time-outs
        self.since = 0.0  # since when the first of them may be running
        self.unwanted: set[int] = set()  # what was recalled although it may be running
        self.recalling = False  # an answer to `recall` is awaited


class HostingEngine:
    """Runs what a guest carries.  Every report of the guest's is passed on by the reactor's thread, in order."""

    keep = 0

    def __init__(
        self, driver: Driver, reactor: Reactor, guest: Engine, options: PoolOptions, wanted: int | None
    ) -> None:
        self._driver = driver
        self._reactor = reactor
        self._guest = guest
        self.name = guest.name
        self.abilities: Abilities = guest.abilities
        self.stock_seconds = guest.stock_seconds
        self.batches = guest.stock_seconds > 0
        self.stoppable = self.abilities.kill or self.abilities.recall
        self._calls = CallTable()
        self._lock = threading.Lock()  # guards: _workers and what is in them.  A leaf: nobody is called under it.
        self._workers: dict[int, _Worker] = {}
        self.abilities.configure(self.name, options)
        guest.open(_Host(self), options, wanted)

    @property
    def guest(self) -> Engine:
        """The engine of the public interface."""
        return self._guest

    # -- from the pool

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        call = self._calls.encode(fn, args, kwargs, memo)
        refusal = self._refusal(call)
        if refusal is not None:
            raise refusal
        return call

    def _refusal(self, call: Call) -> Unsupported | None:
        """What is in shared memory here can't be had in another place; nor would it say so there in plain words."""
        if self.abilities.share_memory:
            return None
        assert isinstance(call.payload, bytes)  # `encode` has no store to put anything in
        if shares(call.payload):
            what = "an argument"
        elif shares(call.function.blob):
            what = f"{title(call.fn)}, or what it refers to,"
        else:
            return None
        words = f"engine {self.name!r} has no share_memory, and {what} lies there: it runs in another place"
        return Unsupported(words, self.name, "share_memory")

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        function = memo.get("function")
        if function is None or memo.get("context") is not None:
            return None
        return function, None, None, True, False

    def default_workers(self) -> int:
        return max(1, self._guest.workers())

    def configure(self, options: PoolOptions) -> None:
        """The guest has had them in `open`."""

    def accept(self, options: TaskOptions) -> None:
        self.abilities.accept(self.name, options)
        self._guest.accept(options)

    def renew(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def start(self, worker: int) -> None:
        with self._lock:
            self._workers[worker] = _Worker()
        try:
            self._guest.start(worker)
        except Exception as error:
            self.gone(worker, Exit(None, None), BadStart(f"engine {self.name!r} can't start one", error, True))

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        with self._lock:
            record = self._workers.get(worker)
            if record is None:
                return
            if not record.held:
                record.since = time.monotonic()
            record.held.update((seq, task.options.timeout) for seq, task in batch)
        refused = [(seq, RAISED, refusal, 0, 0) for seq, task in batch if (refusal := self._refusal(task.call))]
        if refused:  # the calls of a map, which were encoded without us
            self.results(worker, refused)
            unfit = {result[0] for result in refused}
            batch = [(seq, task) for seq, task in batch if seq not in unfit]
        functions: dict[int, bytes] = {}
        orders = [self._order(seq, task, functions) for seq, task in batch]
        try:
            self._guest.run(worker, Work(orders, functions))
        except Exception as error:  # the engine's fault; but who waits for the calls has to know
            self.results(worker, [(order.seq, RAISED, error, 0, 0) for order in orders])

    def _order(self, seq: int, task: Task, functions: dict[int, bytes]) -> Order:
        call, options = task.call, task.options
        assert isinstance(call.payload, bytes)  # `encode` has no store to put anything in
        function: Function = call.function
        variables: Function | None = call.variables
        functions[function.id] = function.blob
        if variables is not None:
            functions[variables.id] = variables.blob
        timeout = options.timeout if self.abilities.timeout and not self.abilities.kill else None
        return Order(
            seq, function.id, call.payload, 0 if variables is None else variables.id, timeout, options.memory_limit,
            options.resources,
        )  # fmt: skip

    def stop(self, worker: int) -> None:
        self._guest.stop(worker)

    def kill(self, worker: int, seq: int | None) -> None:
        with self._lock:
            record = self._workers.get(worker)
            if record is None:
                return
            runs = next(iter(record.held), None)
            hit = seq is None or (self.abilities.kill and runs == seq)
            again = seq is None or seq in record.unwanted or seq not in record.held
            if seq is not None and not hit and not again:
                record.unwanted.add(seq)
        if not hit:
            if self.abilities.recall and not again and seq is not None:
                self._guest.recall(worker, [seq], True)
            self._driver.spared(worker, Look(None, 0.0))
        elif self.abilities.kill:
            self._guest.kill(worker)
        else:  # all is over: nobody waits for its results
            self.gone(worker, Exit(None, None), "")

    def look(self, worker: int) -> Look:
        with self._lock:
            record = self._workers.get(worker)
            if record is None or not record.held or not (self.abilities.kill or self.abilities.recall):
                return Look(None, 0.0)
            seq, timeout = next(iter(record.held.items()))
            seconds = time.monotonic() - record.since
        if timeout is not None and not self.abilities.kill:  # whether it is over time, the guest says
            seconds = min(seconds, timeout / 2)
        return Look(seq, seconds)

    def revoke(self, worker: int) -> int:
        """What can be taken back comes back by and by; nothing can be said now."""
        with self._lock:
            record = self._workers.get(worker)
            seqs = [] if record is None or record.recalling or not self.abilities.recall else list(record.held)
            if record is not None and seqs:
                record.recalling = True
        if seqs:
            self._guest.recall(worker, seqs, False)
        return 1 << 63

    def restore(self, worker: int) -> None:
        pass

    def pause(self, worker: int) -> None:
        raise Unsupported(f"engine {self.name!r} has no streams", self.name, "stream")

    def resume(self, worker: int) -> None:
        pass

    def pid(self, worker: int) -> int | None:
        return self._guest.pid(worker)

    def lane(self, worker: int) -> None:
        return None

    def current_worker(self) -> int | None:
        return None

    def close(self) -> None:
        with self._lock:
            self._workers.clear()
        try:
            self._guest.close()
        except Exception:
            sys.excepthook(*sys.exc_info())

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._calls.after_fork()
        self._workers.clear()

    # -- from the guest

    def ready(self, worker: int) -> None:
        """Pass it on."""
        self._reactor.call_soon(lambda: self._driver.ready(worker))

    def results(self, worker: int, results: Sequence[Result]) -> None:
        """Pass them on, if the worker is still known."""

        def report() -> None:
            if self._forget(worker, [result[0] for result in results]):
                self._driver.finished(worker, results)

        self._reactor.call_soon(report)

    def given_back(self, worker: int, seqs: Sequence[int]) -> None:
        """Pass it on."""

        def report() -> None:
            if self._forget(worker, seqs, answer=True) and seqs:
                self._driver.skipped(worker, list(seqs))

        self._reactor.call_soon(report)

    def _forget(self, worker: int, seqs: Sequence[int], answer: bool = False) -> bool:
        with self._lock:
            record = self._workers.get(worker)
            if record is None:
                return False
            for seq in seqs:
                record.held.pop(seq, None)
                record.unwanted.discard(seq)
            record.since = time.monotonic()  # the next one begins now
            if answer:
                record.recalling = False
            return True

    def gone(self, worker: int, exit: Exit, reason: str | BadStart, began: bool = True) -> None:
        """Report the end of a worker; was the first of what it had running?"""

        def report() -> None:
            with self._lock:
                record = self._workers.pop(worker, None)
                running = None if record is None or not began else next(iter(record.held), None)
            if record is not None:
                self._driver.ended(worker, running, exit, reason)

        self._reactor.call_soon(report)

    def then(self, what: Callable[[], None]) -> None:
        """Behind all that was passed on before."""
        self._reactor.call_soon(what)

    def crew(self, workers: int) -> None:
        """Pass it on."""
        self._reactor.call_soon(lambda: self._driver.retarget(workers))


class _Host:
    """`guest.Host`, and nothing else of the engine above."""

    def __init__(self, engine: HostingEngine) -> None:
        self._engine = engine

    def ready(self, worker: int) -> None:
        self._engine.ready(worker)

    def results(self, worker: int, results: Sequence[Result]) -> None:
        self._engine.results(worker, results)

    def given_back(self, worker: int, seqs: Sequence[int]) -> None:
        self._engine.given_back(worker, seqs)

    def ended(
        self,
        worker: int,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        error: BaseException | None = None,
        began: bool = True,
    ) -> None:
        reason: str | BadStart = "" if error is None else BadStart(str(error), error, True)
        self._engine.gone(worker, Exit(pid, exitcode), reason, began)

    def then(self, what: Callable[[], None]) -> None:
        self._engine.then(what)

    def crew(self, workers: int) -> None:
        self._engine.crew(workers)
