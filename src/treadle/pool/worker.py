"""What runs inside a worker process: take a task, publish it, run it, send how it ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ResultNotPicklable, TaskNotLoadable, shorten
from . import busy, failures
from .payloads import decode_arguments, describe, dumps, loads
from .transport.base import FORGET, FUNCTION, RAISED, READY, RETURNED, SETUP, SKIPPED, STOP, TASK, Port
from .transport.page import Page
from .transport.pipes import PipePort

EXIT_PARENT_GONE = 0
LEAVE_SECONDS = 3.0


class Worker:
    """Runs tasks, one at a time, in the order in which they arrive, in the main thread of its process."""

    def __init__(self, port: Port, page: Page) -> None:
        self._port = port
        self._page = page
        self._functions: dict[int, bytes | Callable[..., Any]] = {}

    def serve(self) -> int:
        """Serve until told to stop, until the parent is gone, or until a task leaves by SystemExit.

        Returns the exit code.  Every result is written before the next task starts: whatever kills this process
        later, what is finished is known to be finished.
        """
        self._port.send(READY, os.getpid(), 0, 0, b"")
        while True:
            frames = self._port.receive()
            if frames is None:
                return EXIT_PARENT_GONE
            for kind, seq, a, b, payload in frames:
                if kind == TASK:
                    self._run(seq, a, b == 1, payload)
                elif kind == FUNCTION:
                    self._functions[seq] = payload
                elif kind == FORGET:
                    self._functions.pop(seq, None)
                elif kind == SETUP:
                    _set_up(loads(payload))
                elif kind == STOP:
                    return 0

    def _run(self, seq: int, function: int, measure: bool, payload: bytes) -> None:
        start = time.monotonic_ns()
        cpu = used = queued = 0
        if not self._page.may_start(seq, start):
            self._port.send(SKIPPED, seq, 0, 0, b"")
            return
        kind = RETURNED
        try:
            fn, args, kwargs = self._load(function, payload)
            if measure:
                # Loading may have imported half of the world; what tells waiting from computing is the call alone.
                # The CPU clock is read outside of the wall clock: a call of a microsecond must not seem to wait.
                cpu, queued = busy.own()
                self._page.called(time.monotonic_ns(), cpu, queued)
                start = time.monotonic_ns()
            value = fn(*args, **kwargs)
            wall = time.monotonic_ns() - start
            if measure:
                cpu_now, queued_now = busy.own()
                used = cpu_now - cpu
                wall = max(0, wall - (queued_now - queued))
            data = self._pack(fn, value)
        except SystemExit:
            raise  # it asks for the end of this process, and gets it; the parent reports it
        except BaseException as error:
            wall = time.monotonic_ns() - start
            kind, data = RAISED, failures.pack(error, skip=1)
        self._port.send(kind, seq, wall, used, data)

    def _load(self, function: int, payload: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        fn = self._functions[function]
        if not callable(fn):
            try:
                fn = loads(fn)
            except Exception as error:
                raise TaskNotLoadable(f"the function can't be loaded in the worker: {describe(error)}") from error
            assert callable(fn)
            self._functions[function] = fn
        try:
            args, kwargs = decode_arguments(payload)
        except Exception as error:
            raise TaskNotLoadable(f"the arguments can't be loaded in the worker: {describe(error)}") from error
        return fn, args, kwargs

    @staticmethod
    def _pack(fn: Callable[..., Any], value: Any) -> bytes:
        try:
            return dumps(value)
        except Exception as error:
            name = getattr(fn, "__qualname__", None) or type(fn).__name__
            raise ResultNotPicklable(
                f"{name} returned {shorten(value)}, which can't be pickled: {describe(error)}"
            ) from error


def environment() -> bytes:
    """In the parent: what a worker should find as the parent has it."""
    try:
        cwd = str(Path.cwd())
    except OSError:  # it was removed under our feet; a worker can live without
        cwd = None
    return pickle.dumps((list(sys.path), cwd, dict(os.environ), list(sys.argv), sys.flags.safe_path))


def _set_up(values: tuple[Any, ...]) -> None:
    path, cwd, environ, argv, _ = values
    sys.path[:] = path
    sys.argv[:] = argv
    if dict(os.environ) != environ:
        os.environ.clear()
        os.environ.update(environ)
    if cwd is not None:
        with contextlib.suppress(OSError):
            os.chdir(cwd)


def run(inbox: int, outbox: int, page_fd: int) -> NoReturn:
    """The life of a worker process, from its first line to its exit.  Everything before has been arranged."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    page = Page(page_fd)
    os.close(page_fd)
    code = 1
    try:
        code = Worker(PipePort(inbox, outbox), page).serve()
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
        os._exit(code)
