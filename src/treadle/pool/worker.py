"""What runs inside a worker process: take a task, publish it, run it, send how it ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .._native import _core
from ..errors import MemoryLimitExceeded, ResultNotPicklable, TaskNotLoadable, shorten
from . import busy, failures, inside, memory
from .contexts import Runner
from .payloads import Payload, decode_arguments, describe, loads
from .transport.base import (
    FORGET,
    FUNCTION,
    INITIALIZE,
    INITIALIZED,
    ITEM,
    MEASURED,
    MEMORY,
    MEMORY_LIMIT,
    NOT_INITIALIZED,
    RAISED,
    READY,
    RETURNED,
    SETUP,
    SKIPPED,
    STOP,
    STREAM,
    SWOLLEN,
    TASK,
    VARIABLES,
)

EXIT_PARENT_GONE = 0
EXIT_NOT_INITIALIZED = 1
LEAVE_SECONDS = 3.0

number = 0  # of this worker in its pool


class Worker:
    """Runs tasks, one at a time, in the order in which they arrive, in the main thread of its process."""

    def __init__(self, port: _core.Port, store: _core.Store) -> None:
        self._port = port
        self._store = store
        self._functions: dict[int, bytes | Callable[..., Any]] = {}
        self._runner = Runner()
        self._limits: dict[int, int] = {}  # bytes, of tasks that are to come
        self._streams: set[int] = set()  # tasks to come that stream
        self._most = 0  # bytes; above it, after a task, it is time to leave; 0: never
        self._keep_exits = False  # is sys.exit in a task an exception like any other?

    def serve(self) -> int:
        """Serve until told to stop, until the parent is gone, or until a task leaves by SystemExit.

        Returns the exit code.  Every result is written before the next task starts: whatever kills this process
        later, what is finished is known to be finished.

        `Port.serve` runs plain tasks itself, just as `_run` does, and returns whatever else there is to do.
        """
        port = self._port
        port.send(READY, os.getpid(), 0, 0, b"")
        while True:
            runner = self._runner
            frame = port.serve(
                self._functions,
                self._pack,
                failures.pack,
                _unloadable,
                runner.enter,
                runner.leave,
                inside.streams.task_ended,
                self._keep_exits,
                self._function,
            )
            if frame is None:
                return EXIT_PARENT_GONE
            kind, seq, a, b, payload = frame
            if kind == TASK:
                self._run(seq, a, b & MEASURED != 0, b >> VARIABLES, payload)
            elif kind == FUNCTION:
                self._functions[seq] = payload
            elif kind == FORGET:
                self._functions.pop(seq, None)
            elif kind == SETUP:
                global number
                number = seq
                _core.trace_title(f"worker {seq}")
                _set_up(loads(payload))
                inside.streams.remind = port.remind
                self._keep_exits = a == 1
                _core.thread_role("worker", b)
            elif kind == INITIALIZE:
                if not self._initialize(payload):
                    return EXIT_NOT_INITIALIZED
            elif kind == MEMORY_LIMIT:
                self._limits[seq] = a
            elif kind == STREAM:
                self._streams.add(seq)
            elif kind == MEMORY:
                self._most = a
            elif kind == STOP:
                return 0

    def _run(self, seq: int, function: int, measure: bool, variables: int, payload: Payload) -> None:
        if not self._port.start(seq):
            self._limits.pop(seq, None)
            self._streams.discard(seq)
            self._port.send(SKIPPED, seq, 0, 0, b"")
            return
        start = time.monotonic_ns()
        cpu = used = queued = 0
        kind, fn = RETURNED, None
        bound = limit = None
        if self._limits and (limit := self._limits.pop(seq, None)):
            self._port.based(memory.resident(os.getpid()))
            bound = memory.Bound(limit)
        try:
            fn, args, kwargs = self._load(function, payload)
            self._port.title(fn)
            context = self._runner.enter(self._function(variables)() if variables else None)
            if measure:
                # Loading may have imported half of the world; what tells waiting from computing is the call alone.
                # The CPU clock is read outside of the wall clock: a call of a microsecond must not seem to wait.
                cpu, queued = busy.own()
                self._port.called(time.monotonic_ns(), cpu, queued)
                start = time.monotonic_ns()
            span, failed = _core.trace_begin(fn, seq, self._port.token), True
            try:
                value = context.run(fn, *args, **kwargs)
                if seq in self._streams:
                    self._streams.discard(seq)
                    value = context.run(self._stream, seq, fn, value)
                failed = False
            finally:
                if span is not None:
                    _core.trace_end(span, failed)
                self._runner.leave(context)
            wall = time.monotonic_ns() - start
            if measure:
                cpu_now, queued_now = busy.own()
                used = cpu_now - cpu
                wall = max(0, wall - (queued_now - queued))
            data = self._pack(fn, value)
        except BaseException as error:
            if isinstance(error, SystemExit) and (fn is None or not self._keep_exits):
                raise  # it asks for the end of this process, and gets it; the parent reports it
            wall = time.monotonic_ns() - start
            if bound is not None:
                bound.lift()
                error = _over_limit(error, limit)
            kind, data = RAISED, failures.pack(error, skip=1)
        finally:
            if bound is not None:
                bound.lift()
                self._port.based(0)
        inside.streams.task_ended()
        self._port.send(kind, seq, wall, used, data)
        if self._most and memory.private() > self._most:
            self._most = 0
            self._port.send(SWOLLEN, 0, 0, 0, b"")

    def _stream(self, seq: int, fn: Callable[..., Any], values: Any) -> None:
        """Send each as it comes.  Where the parent has had enough for now, `send` waits for room."""
        for value in values:
            self._port.send(ITEM, seq, 0, 0, self._pack(fn, value))

    def _initialize(self, payload: bytes) -> bool:
        """Have the user's initializer make this process ready for tasks; False if it fails."""
        try:
            try:
                function, arguments = loads(payload)
                fn = loads(function)
                args, kwargs = decode_arguments(arguments)
            except Exception as error:
                raise TaskNotLoadable(f"the initializer can't be loaded in the worker: {describe(error)}") from error
            fn(*args, **kwargs)
        except SystemExit:
            raise
        except BaseException as error:
            self._port.send(NOT_INITIALIZED, 0, 0, 0, failures.pack(error, skip=1))
            return False
        self._runner = Runner()  # what the initializer has set, every task finds
        self._port.send(INITIALIZED, 0, 0, 0, b"")
        return True

    def _load(self, function: int, payload: Payload) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        fn = self._function(function)
        try:
            args, kwargs = decode_arguments(payload)
        except Exception as error:
            raise _not_loadable(error) from error
        return fn, args, kwargs

    def _function(self, id: int) -> Callable[..., Any]:
        fn = self._functions[id]
        if not callable(fn):
            try:
                fn = loads(fn)
            except Exception as error:
                raise TaskNotLoadable(f"the function can't be loaded in the worker: {describe(error)}") from error
            assert callable(fn)
            self._functions[id] = fn
        return fn

    def _pack(self, fn: Callable[..., Any], value: Any) -> Payload:
        try:
            return self._store.dumps(value)
        except Exception as error:
            name = getattr(fn, "__qualname__", None) or type(fn).__name__
            what, why = shorten(value), describe(error)
            raise ResultNotPicklable(f"{name} returned {what}, which can't be pickled: {why}", what, why) from error


def _over_limit(error: BaseException, limit: int | None) -> BaseException:
    """What a task with a memory limit has raised: a MemoryError is the limit's doing."""
    if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
        return error
    named = MemoryLimitExceeded(f"the task wanted more than {limit} bytes of memory", limit)
    named.__cause__ = error
    return named.with_traceback(error.__traceback__)


def _not_loadable(error: Exception) -> TaskNotLoadable:
    return TaskNotLoadable(f"the arguments can't be loaded in the worker: {describe(error)}")


def _unloadable(error: BaseException) -> bytes:
    """What the parent is told when loading a call's arguments has raised `error`."""
    if not isinstance(error, Exception):
        return failures.pack(error)
    trouble = _not_loadable(error)
    trouble.__cause__ = error
    return failures.pack(trouble)


def environment(settings: bytes) -> bytes:
    """In the parent: what a worker should find as the parent has it; `settings` are those of `inside`."""
    try:
        cwd = os.getcwd()  # noqa: PTH109 - pathlib takes long to import
    except OSError:  # it was removed under our feet; a worker can live without
        cwd = None
    return pickle.dumps((list(sys.path), cwd, dict(os.environ), list(sys.argv), settings))


def _set_up(values: tuple[Any, ...]) -> None:
    path, cwd, environ, argv, settings = values
    sys.path[:] = path
    sys.argv[:] = argv
    if dict(os.environ) != environ:
        os.environ.clear()
        os.environ.update(environ)
    if cwd is not None:
        with contextlib.suppress(OSError):
            os.chdir(cwd)
    inside.arrive(settings)


def run(lane: int, event: int, large: int) -> NoReturn:
    """The life of a worker process, from its first line to its exit.  Everything before has been arranged."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = _core.Store(large)
    port = _core.Port(lane, event, store)
    os.close(lane)
    code = 1
    try:
        code = Worker(port, store).serve()
    except SystemExit as error:
        code = _exit_code(error)
    except BrokenPipeError:
        code = EXIT_PARENT_GONE
    except KeyboardInterrupt:  # between two tasks: somebody wants it to go
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    leave(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    with contextlib.suppress(Exception):
        print(error.code, file=sys.stderr)
    return 1


def leave(code: int) -> NoReturn:
    """End as a program does (threads joined, exit handlers called, files flushed), but without tearing Python down.

    A thread that a task has left behind, or an exit handler, gets `LEAVE_SECONDS`.
    """
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(code))
        signal.setitimer(signal.ITIMER_REAL, LEAVE_SECONDS)
    try:
        import atexit
        import threading

        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        with contextlib.suppress(BaseException):
            inside.streams.task_ended()
        os._exit(code)
