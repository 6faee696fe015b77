"""No workers at all: each call runs in the thread that asks for it, so that breakpoints work.

`submit` returns when the call has ended, with its retries; a map makes one call for each result that is asked for.
The brain decides as for every other engine, in the reactor's thread; what it gives out comes back to the thread that
has submitted it and waits in `attend`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context
from typing import Any, Protocol

from ...sync import Semaphore
from .. import contexts
from ..abilities import Abilities
from ..failures import BadStart, Exit, title
from ..options import PoolOptions, TaskOptions
from ..reactor import Reactor
from ..task import BROKEN, DONE, RAISED, RETURNED, Call, Task
from ..waits import SLICE_SECONDS, in_main_thread
from .base import Listener, Look, Memo


class Driver(Listener, Protocol):
    """What this engine needs from the driver beyond listening."""

    def waiting(self, what: str) -> AbstractContextManager[None]: ...
    def drop(self, tasks: list[Task], running: bool = False) -> None: ...


_EXIT = Exit(os.getpid(), None)


class _Attendant:
    """A thread in `attend`, and what it has been given to run."""

    def __init__(self) -> None:
        self.inbox: deque[tuple[int, int, Task]] = deque()
        self.arrived = Semaphore(0)  # released for each entry of `inbox`, and when it is time to look again


class _Here(threading.local):
    """As which worker this thread runs a task, if it does; and of which engine."""

    place: tuple[InlineEngine, int] | None = None


_here = _Here()


class InlineEngine:
    """Runs each call in the thread that submits it."""

    name = "inline"
    abilities = Abilities(background=False, initializer=True, share_memory=True, takes_anything=True)
    batches = False
    keep = 0
    stoppable = False

    def __init__(self, driver: Driver, reactor: Reactor) -> None:
        self._driver = driver
        self._reactor = reactor
        # Of both only single operations are used, which are atomic.  `send` puts a task in `_given` and then looks for
        # its attendant; `attend` enters the attendant and then looks for its tasks.  So one of the two finds the other,
        # and `pop` tells who was first.
        self._given: dict[int, tuple[int, int, Task]] = {}  # by the id of the task: worker, sequence number, task
        self._attendants: dict[int, _Attendant] = {}  # by the id of the task that it waits for
        self._running: dict[int, tuple[int, float]] = {}  # of each worker: sequence number, and since when
        self._initializer: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self._ready: set[int] = set()  # workers for which the initializer has returned
        self._closed = False

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        return Call(fn, args, kwargs, context=contexts.current() if memo is None else memo.get("context"))

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        return None, memo.get("context"), None, False, False

    def default_workers(self) -> int:
        return 1

    def configure(self, options: PoolOptions) -> None:
        self.abilities.configure(self.name, options)
        if options.initializer is not None:
            self._initializer = options.initializer, options.initargs

    def accept(self, options: TaskOptions) -> None:
        self.abilities.accept(self.name, options)

    def renew(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def start(self, worker: int) -> None:
        self._driver.ready(worker)

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        for seq, task in batch:
            self._given[id(task)] = worker, seq, task
            attendant = self._attendants.get(id(task))
            if attendant is not None:
                self._hand(attendant, id(task))

    def _hand(self, attendant: _Attendant, key: int) -> None:
        given = self._given.pop(key, None)
        if given is not None:
            attendant.inbox.append(given)
            attendant.arrived.release()

    def attend(self, tasks: list[Task]) -> None:
        """After a submit, in the thread that submits: run these, until all of them have ended.

        In a callback of the pool's, which must not wait, a thread of its own does it.
        """
        if self._reactor.in_thread:
            threading.Thread(target=self._attend, args=(tasks,), name="treadle-inline", daemon=True).start()
        else:
            self._attend(tasks)

    def _attend(self, tasks: list[Task]) -> None:
        attendant = _Attendant()
        try:
            for task in tasks:
                self._attendants[id(task)] = attendant
                self._hand(attendant, id(task))
            while True:
                try:
                    worker, seq, task = attendant.inbox.popleft()
                except IndexError:
                    if self._closed or all(task.state == DONE for task in tasks):
                        return
                    with self._driver.waiting("call"):
                        # In slices: one that is cancelled while it waits for its turn is never given to us.
                        attendant.arrived.acquire(timeout=SLICE_SECONDS)
                    continue
                self._attempt(attendant, worker, seq, task)
        except BaseException:  # Ctrl-C: nobody is there any more to run the others
            self._driver.drop(tasks)
            for task in tasks:
                self._hand(attendant, id(task))
            while attendant.inbox:
                self._tell(attendant, self._driver.ended, attendant.inbox.popleft()[0], None, _EXIT, "")
            raise
        finally:
            for task in tasks:
                self._attendants.pop(id(task), None)

    def _tell(self, attendant: _Attendant, report: Callable[..., None], *args: Any) -> None:
        """Report something; in the reactor's thread, for this one may be interrupted between any two steps."""

        def tell() -> None:
            try:
                report(*args)
            finally:
                attendant.arrived.release()

        self._reactor.call_soon(tell)

    def _attempt(self, attendant: _Attendant, worker: int, seq: int, task: Task) -> None:
        task.pid = os.getpid()
        begin = time.monotonic()
        self._running[worker] = seq, begin
        interrupt: BaseException | None = None
        kind: int
        data: Any
        try:
            with self._as_worker(worker):
                trouble = self._prepared(worker)
                if trouble is not None:
                    kind, data = BROKEN, trouble
                else:
                    kind, data = RETURNED, self._call(task.call)
        except SystemExit as error:
            self._running.pop(worker, None)
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            self._tell(attendant, self._driver.ended, worker, seq, Exit(os.getpid(), code), "")
            return
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and in_main_thread():
                interrupt = error
            for _ in range(3):  # frames of ours, that are nobody's business
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    error.__traceback__ = error.__traceback__.tb_next
            kind, data = RAISED, error
        nanoseconds = int((time.monotonic() - begin) * 1e9)
        self._running.pop(worker, None)
        self._tell(attendant, self._driver.finished, worker, ((seq, kind, data, nanoseconds, 0),))
        if interrupt is not None:
            raise interrupt

    @staticmethod
    def _call(call: Call) -> Any:
        context = Context() if call.context is None else call.context.copy()
        return context.run(call.fn, *call.args, **(call.kwargs or {}))

    def _prepared(self, worker: int) -> BadStart | None:
        """Call the initializer, if it has to be; what is wrong with it."""
        if self._initializer is None or worker in self._ready:
            return None
        fn, args = self._initializer
        try:
            fn(*args)
        except BaseException as error:
            return BadStart(f"its initializer, {title(fn)}, raised", error)
        self._ready.add(worker)
        return None

    @contextmanager
    def _as_worker(self, worker: int) -> Iterator[None]:
        before, _here.place = _here.place, (self, worker)
        try:
            yield
        finally:
            _here.place = before

    def stop(self, worker: int) -> None:
        self._ready.discard(worker)
        self._driver.ended(worker, None, Exit(os.getpid(), 0), "")

    def kill(self, worker: int, seq: int | None) -> None:
        """Nobody waits for it any more; the call itself goes on."""
        if seq is not None:
            self._driver.spared(worker, self.look(worker))
            return
        self._driver.ended(worker, None, Exit(os.getpid(), None), "")
        self._wake()

    def _wake(self) -> None:
        for attendant in list(self._attendants.values()):
            attendant.arrived.release()

    def look(self, worker: int) -> Look:
        running = self._running.get(worker)
        return Look(None, 0.0) if running is None else Look(running[0], time.monotonic() - running[1])

    def revoke(self, worker: int) -> int:
        return 1 << 63

    def restore(self, worker: int) -> None:
        pass

    def pause(self, worker: int) -> None:
        raise AssertionError("nothing streams here")

    def resume(self, worker: int) -> None:
        raise AssertionError("nothing streams here")

    def pid(self, worker: int) -> int | None:
        return os.getpid()

    def lane(self, worker: int) -> None:
        return None

    def current_worker(self) -> int | None:
        place = _here.place
        return place[1] if place is not None and place[0] is self else None

    def close(self) -> None:
        self._closed = True
        self._wake()

    def after_fork(self) -> None:
        self._closed = True
        self._given.clear()
        self._attendants.clear()
