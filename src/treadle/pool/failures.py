"""Exceptions on their way from a task to whoever waits for it.

An exception may refuse to be pickled, or, worse, be pickled happily and refuse to be rebuilt (an ``__init__`` with two
required arguments is enough).  So the worker rebuilds it once as a trial, before it sends it.  What can't make the
journey as it is goes in the closest form that can: the same type without the attributes that can't be pickled, or a
`RemoteError` that has its name, its text and its traceback.
"""

from __future__ import annotations

import os
import traceback
from typing import Any, NamedTuple

from ..errors import (
    RemoteError,
    RemoteTraceback,
    TaskFailure,
    TaskTimeout,
    TreadleError,
    WorkerDied,
    WorkerStartError,
    describe_exit,
)
from .payloads import dumps, loads
from .task import BROKEN, CANCELLED, DIED, TIMED_OUT, Task
from .waits import in_main_thread


class Exit(NamedTuple):
    """How a worker ended: its pid and its exit code (minus the signal's number), as far as known."""

    pid: int | None
    exitcode: int | None


def pack(error: BaseException, skip: int = 0) -> bytes:
    """In the worker: an exception with its traceback, as bytes.  Never raises.

    `skip` frames of the traceback are ours and nobody's business.
    """
    tb = error.__traceback__
    for _ in range(skip):
        if tb is not None:
            tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, tb))
    except Exception as trouble:
        text = f"{type(error).__name__} (its traceback can't be printed: {type(trouble).__name__})\n"
    try:
        message = str(error)
    except Exception:
        message = "<an exception whose str() raises>"
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return dumps((os.getpid(), _pack_object(error), name, message, text))


def _pack_object(error: BaseException) -> bytes | None:
    for attempt in (_as_it_is, _rebuildable, _stripped):
        try:
            blob = attempt(error)
            if type(loads(blob)) is type(error):
                return blob
        except Exception:
            continue
    return None


def _as_it_is(error: BaseException) -> bytes:
    blob = dumps(error)
    if loads(blob).args != error.args:
        raise ValueError("it does not survive the journey")
    return blob


def _rebuildable(error: BaseException) -> bytes:
    return dumps(_Rebuild(type(error), error.args, error.__dict__))


def _stripped(error: BaseException) -> bytes:
    args = tuple(arg if _travels(arg) else repr(arg) for arg in error.args)
    state = {name: value for name, value in error.__dict__.items() if _travels(value)}
    lost = sorted(set(error.__dict__) - set(state))
    if lost:
        state["__notes__"] = [*state.get("__notes__", []), f"(without {', '.join(lost)}, which can't be pickled)"]
    return dumps(_Rebuild(type(error), args, state))


def _travels(value: Any) -> bool:
    try:
        loads(dumps(value))
    except Exception:
        return False
    return True


class _Rebuild:
    """Pickles as an exception of that type, made without calling its ``__init__``."""

    def __init__(self, cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self._parts = (cls, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, self._parts


def rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception of type `cls` without running its ``__init__``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def unpack(blob: bytes, task: Task) -> BaseException:
    """In the parent: the counterpart of `pack`.  The exception carries its `TaskFailure`.

    Raises nothing but a Ctrl-C."""
    pid, inner, name, message, text = loads(blob)
    error: BaseException | None = None
    if inner is not None:
        try:
            loaded = loads(inner)
            if isinstance(loaded, BaseException):
                error = loaded
        except BaseException as trouble:
            if isinstance(trouble, KeyboardInterrupt) and in_main_thread():
                raise  # Ctrl-C; see results.resolve
            text += f"\n({name} can't be rebuilt in this process: {type(trouble).__name__}: {trouble})\n"
    if error is None:
        error = RemoteError(f"{name}: {message}", name)
    if not isinstance(error, TreadleError):  # the traceback of ours would only show our own worker
        error.__cause__ = RemoteTraceback(text)
    task.pid = pid
    return describe_task(error, task, text)


def describe_task(error: BaseException, task: Task, text: str = "") -> BaseException:
    """Attach the item, its index, attempts and worker, for `except` clauses and for whoever reads the traceback."""
    info = TaskFailure(task.item, task.index, max(1, task.attempts), task.pid, text)
    try:
        error.task = info  # type: ignore[attr-defined]
        error.add_note(info.note())
    except Exception:  # an exception that refuses attributes: it has to do without
        pass
    return error


def make(kind: int, data: Any, task: Task) -> BaseException:
    """The exception for a task that ended without raising one itself."""
    name = getattr(task.call.fn, "__qualname__", None) or type(task.call.fn).__name__
    if isinstance(data, Exit):
        task.pid = data.pid
    error: BaseException
    if kind == DIED:
        pid, exitcode = data
        error = WorkerDied(f"worker {pid} {describe_exit(exitcode)} while it ran {name}", pid, exitcode)
    elif kind == TIMED_OUT:
        error = TaskTimeout(f"{name} ran longer than {task.timeout:g} s", task.timeout)
    elif kind == BROKEN:
        error = WorkerStartError(f"no worker can be started: {data}")
    else:
        assert kind == CANCELLED, kind
        raise AssertionError("a cancelled task has no exception of ours")
    return describe_task(error, task)
