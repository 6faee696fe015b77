"""Errors that nobody catches, in threads that a task has started, in finalizers, at a worker's end, reach the hooks of
the program.

They arrive as exceptions with the remote traceback as their cause, as those of tasks do.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import SimpleNamespace, TracebackType
from typing import Any

from .. import failures
from ..payloads import dumps, loads
from ..reports import THREAD_ERROR, UNCAUGHT, UNRAISABLE, Sender


def arrive(sender: Sender) -> None:
    """In the worker."""
    threading.excepthook = lambda args: _thread_error(sender, args)
    sys.unraisablehook = lambda args: _unraisable(sender, args)
    sys.excepthook = lambda kind, error, tb: _uncaught(sender, kind, error, tb)


def _thread_error(sender: Sender, args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    error = args.exc_value if args.exc_value is not None else args.exc_type()
    thread = args.thread.name if args.thread is not None else None
    if not _send(sender, THREAD_ERROR, error, (thread, threading.get_ident(), threading.get_native_id())):
        threading.__excepthook__(args)


def _unraisable(sender: Sender, args: sys.UnraisableHookArgs) -> None:
    error = args.exc_value if args.exc_value is not None else args.exc_type()
    try:
        what = repr(args.object) if args.object is not None else None
    except Exception:
        what = f"<{type(args.object).__name__}>"
    if not _send(sender, UNRAISABLE, error, (args.err_msg, what)):
        sys.__unraisablehook__(args)


def _uncaught(sender: Sender, kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    if not _send(sender, UNCAUGHT, error, ()):
        sys.__excepthook__(kind, error, tb)


def _send(sender: Sender, kind: int, error: BaseException, more: tuple[Any, ...]) -> bool:
    try:
        return sender.send(kind, dumps((failures.pack(error), *more)))
    except Exception:
        return False


# -- in the program


class RemoteThread:
    """Stands for a thread of a worker in the arguments of `threading.excepthook`."""

    def __init__(self, name: str, ident: int, native_id: int) -> None:
        self.name = name
        self.ident = ident
        self.native_id = native_id
        self.daemon = True

    def is_alive(self) -> bool:
        """It has just ended by this error."""
        return False

    def __repr__(self) -> str:
        return f"<RemoteThread({self.name}, {self.ident})>"


def _restore(blob: bytes) -> tuple[BaseException, int]:
    error, pid, _ = failures.restore(blob)
    error.add_note(f"treadle: in worker process {pid}")
    return error, pid


def handle_thread_error(message: bytes) -> None:
    blob, name, ident, native_id = loads(message)
    error, pid = _restore(blob)
    thread: Any = None if name is None else RemoteThread(f"{name} of worker {pid}", ident, native_id)
    threading.excepthook(threading.ExceptHookArgs((type(error), error, None, thread)))


def handle_unraisable(message: bytes) -> None:
    blob, text, what = loads(message)
    error, _ = _restore(blob)
    args: Any = SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=text, object=what)
    if sys.unraisablehook is not sys.__unraisablehook__:
        sys.unraisablehook(args)
    elif sys.stderr is not None:  # Python's own takes nothing but what Python has made
        print(f"{text or 'Exception ignored in'}: {what}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)


def handle_uncaught(message: bytes) -> None:
    (blob,) = loads(message)
    error, _ = _restore(blob)
    sys.excepthook(type(error), error, None)
