"""Subinterpreters of this process, each with a lock of its own: for work that computes, without processes.

A worker is a thread (see `threads.py`) that has an interpreter for itself.  Functions, arguments and results travel as
bytes, as between processes, because no object belongs to two interpreters.  A crash takes the program with it, as in
any thread; and a thread can't be killed.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import Unsupported
from ..abilities import Abilities
from ..calls import CallTable
from ..failures import restore
from ..options import PoolOptions, TaskOptions
from ..payloads import encode_arguments
from ..reactor import Reactor
from ..task import RAISED, RAISED_PACKED, RETURNED_PACKED, Call, Task
from . import inside
from .base import Listener, Memo
from .threads import ThreadEngine, WorkerThread

CLOSE_SECONDS = 1.0  # for interpreters that run nothing to close, at most
NEEDED = (3, 14)  # the first Python with concurrent.interpreters


def check_available() -> None:
    """Raise ValueError on a Python without them."""
    if sys.version_info < NEEDED:
        has = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise ValueError(f"engine 'interpreters' needs Python 3.14 or newer, this is {has}")


class InterpreterEngine(ThreadEngine):
    """Workers that are threads, each with its own interpreter."""

    name = "interpreters"
    abilities = Abilities(timeout=True, initializer=True, share_memory=True)

    def __init__(self, listener: Listener, reactor: Reactor) -> None:
        check_available()
        super().__init__(listener, reactor)
        self._calls = CallTable()
        # All whose interpreters may be open.  Only single operations, which are atomic.
        self.open: dict[_InterpreterThread, None] = {}
        self.initializer_pickled: tuple[bytes, bytes] | None = None

    def after_fork(self) -> None:
        super().after_fork()
        self._calls.after_fork()

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        return self._calls.encode(fn, args, kwargs, memo)

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        return None  # each call is encoded

    def accept(self, options: TaskOptions) -> None:
        super().accept(options)
        if options.stream:
            why = "an interpreter gives its result when it has it all"
            words = f"engine {self.name!r} has no stream, which needs threads or processes: {why}"
            raise Unsupported(words, self.name, "stream")

    def configure(self, options: PoolOptions) -> None:
        super().configure(options)
        if options.initializer is not None:
            blob = self._calls.functions.encode(options.initializer).blob
            self.initializer_pickled = blob, encode_arguments(options.initargs, None)

    def _thread(self, worker: int) -> WorkerThread:
        return _InterpreterThread(worker, self)

    def close(self) -> None:
        super().close()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in list(self.open):
            while thread.is_alive() and not thread.calling and thread is not threading.current_thread():
                if time.monotonic() >= until:
                    return
                thread.join(0.005)


class _Gate:
    """Between the program's end and those who make interpreters or close them: Python crashes where both go on at once.

    Who is running something of the user's then is not waited for: Python leaves those threads where they are.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards both
        self._inside = 0
        self._shut = False

    def __enter__(self) -> None:
        with self._changed:
            while self._shut:  # for ever: this is a daemon thread
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Nobody enters any more; wait until all have left."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._inside, 10.0)


_gate = _Gate()
atexit.register(_gate.shut)


class _InterpreterThread(WorkerThread):
    """Its interpreter is made when there is something to do in it, and closed before the thread's end is reported."""

    engine: InterpreterEngine

    def __init__(self, worker: int, engine: InterpreterEngine) -> None:
        super().__init__(worker, engine)
        # All are this thread's own; others only look at `calling`.
        self._interpreter: Any = None
        self._known: set[int] = set()  # ids of the functions that the interpreter has
        self.calling = False  # something of the user's, which may take its time

    def _open(self) -> Any:
        if self._interpreter is None:
            from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]

            with _gate:
                made = interpreters.create()
                self.engine.open[self] = None
                try:
                    path = [entry for entry in sys.path if isinstance(entry, str)]
                    made.exec(f"import sys; sys.path[:] = {path!r}; sys.argv[:] = {list(sys.argv)!r}")
                    made.call(inside.begin)
                except BaseException:
                    made.close()
                    raise
                self._interpreter = made
        return self._interpreter

    def leave(self) -> None:
        interpreter, self._interpreter = self._interpreter, None
        if interpreter is not None:
            with _gate:
                try:
                    interpreter.call(inside.end)
                finally:
                    interpreter.close()
        self.engine.open.pop(self, None)

    def _call_initializer(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        assert self.engine.initializer_pickled is not None
        interpreter = self._open()
        self.calling = True
        try:
            data = interpreter.call(inside.initialize, *self.engine.initializer_pickled)
        finally:
            self.calling = False
        if data is not None:
            raise restore(data)[0]

    def _serve(self, batch: Sequence[tuple[int, Task]]) -> bool:
        listener, seat, worker = self.engine.listener, self.seat, self.worker
        for seq, task in batch:
            if not seat.begin(seq):
                if seat.abandoned:
                    return False
                listener.skipped(worker, [seq])
                continue
            result = self._attempt(seq, task)
            if result is None or not seat.end():
                return False
            listener.finished(worker, (result,))
            del task, result  # hold nobody's data while waiting
        return True

    def _attempt(self, seq: int, task: Task) -> tuple[int, int, Any, int, int] | None:
        call = task.call
        task.pid = os.getpid()
        try:
            interpreter = self._open()
            news = {}
            for function in (call.function, call.variables):
                if function is not None and function.id not in self._known:
                    news[function.id] = function.blob
            variables = call.variables.id if call.variables is not None else 0
            if news:
                interpreter.call(inside.learn, *[part for item in news.items() for part in item])
                self._known.update(news)
            self.calling = True
            begin = time.monotonic_ns()
            returned, data = interpreter.call(inside.run, call.function.id, variables, call.payload)
            wall = time.monotonic_ns() - begin
        except BaseException as error:  # no interpreter can be made, or it is out of memory
            return seq, RAISED, error, 0, 0
        finally:
            self.calling = False
        if returned is None:
            exits = restore(data)[0]
            if isinstance(exits, SystemExit) and not self.engine.keep_exits:
                self._exit(seq, exits)
                return None
        return seq, RETURNED_PACKED if returned else RAISED_PACKED, data, wall, 0
