"""Exceptions on their way from a task to whoever waits for it.

An exception may refuse to be pickled, or, worse, be pickled happily and refuse to be rebuilt (an ``__init__`` with two
required arguments is enough).  So the worker rebuilds it once as a trial, before it sends it.  What can't make the
journey as it is goes in the closest form that can: the same type without the attributes that can't be pickled, or a
`RemoteError` that has its name, its text and its traceback.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import (
    MemoryLimitExceeded,
    RemoteError,
    RemoteTraceback,
    TaskFailure,
    TaskTimeout,
    TreadleError,
    WorkerDied,
    WorkerStartError,
    adopt_stdlib_names,
    describe_exit,
)
from .payloads import dumps, loads
from .task import BROKEN, CANCELLED, DIED, OVER_MEMORY, TIMED_OUT, Task
from .waits import in_main_thread

Dumps = Callable[[Any], bytes]


class Exit(NamedTuple):
    """How a worker ended: its pid and its exit code (minus the signal's number), as far as known."""

    pid: int | None
    exitcode: int | None

    @property
    def killed(self) -> bool:
        """Was it kill -9?"""
        return self.exitcode == -signal.SIGKILL


class BadStart(NamedTuple):
    """Why a worker never got ready: `words`, and what its initializer has raised, as an exception or as bytes of
    `pack`.  `hopeless`: another one would not get ready either."""

    words: str
    error: BaseException | bytes | None = None
    hopeless: bool = False


def pack(error: BaseException, skip: int = 0, dumps: Dumps = dumps) -> bytes:
    """In the worker: an exception with its traceback, as bytes.  Never raises.

    `skip` frames of the traceback are ours and nobody's business; `dumps` pickles the exception.
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
    return dumps((os.getpid(), _pack_object(error, dumps), name, message, text))


def _pack_object(error: BaseException, dumps: Dumps) -> bytes | None:
    for attempt in (_as_it_is, _rebuildable, _stripped):
        try:
            blob = attempt(error, dumps)
            if type(loads(blob)) is type(error):
                return blob
        except Exception:
            continue
    return None


def _as_it_is(error: BaseException, dumps: Dumps) -> bytes:
    blob = dumps(error)
    if loads(blob).args != error.args:
        raise ValueError("it does not survive the journey")
    return blob


def _rebuildable(error: BaseException, dumps: Dumps) -> bytes:
    return dumps(_Rebuild(type(error), error.args, error.__dict__))


def _stripped(error: BaseException, dumps: Dumps) -> bytes:
    args = tuple(arg if _travels(arg, dumps) else repr(arg) for arg in error.args)
    state = {name: value for name, value in error.__dict__.items() if _travels(value, dumps)}
    lost = sorted(set(error.__dict__) - set(state))
    if lost:
        state["__notes__"] = [*state.get("__notes__", []), f"(without {', '.join(lost)}, which can't be pickled)"]
    return dumps(_Rebuild(type(error), args, state))


def _travels(value: Any, dumps: Dumps) -> bool:
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


def restore(blob: bytes) -> tuple[BaseException, int, str]:
    """In the parent: the counterpart of `pack`: the exception, the pid of the process that raised it, its traceback.

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
    if isinstance(error, TreadleError):
        adopt_stdlib_names()
    else:  # the traceback of ours would only show our own worker
        error.__cause__ = RemoteTraceback(text)
    return error, pid, text


def unpack(blob: bytes, task: Task) -> BaseException:
    """`restore`, for a task: the exception carries its `TaskFailure`."""
    error, task.pid, text = restore(blob)
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


def title(fn: Any) -> str:
    """What to call a function in a message."""
    return getattr(fn, "__qualname__", None) or type(fn).__name__


def _bad_start(why: str | BadStart) -> WorkerStartError:
    if isinstance(why, str):
        return WorkerStartError(f"no worker can be started: {why}")
    if isinstance(why.error, WorkerStartError):  # it says all itself; each task gets one of its own, for its notes
        error = type(why.error)(*why.error.args)
        error.__cause__ = why.error.__cause__
        return error
    error = WorkerStartError(f"no worker can be started: {why.words}")
    if isinstance(why.error, BaseException):
        error.__cause__ = why.error
    elif why.error is not None:
        error.__cause__ = restore(why.error)[0]
    return error


def make(kind: int, data: Any, task: Task) -> BaseException:
    """The exception for a task that ended without raising one itself."""
    adopt_stdlib_names()
    name = title(task.call.fn)
    if isinstance(data, Exit):
        task.pid = data.pid
    error: BaseException
    if kind == DIED:
        pid, exitcode = data
        error = WorkerDied(f"worker {pid} {describe_exit(exitcode)} while it ran {name}", pid, exitcode)
    elif kind == TIMED_OUT:
        error = TaskTimeout(f"{name} ran longer than {task.options.timeout:g} s", task.options.timeout)
    elif kind == OVER_MEMORY:
        limit = task.options.memory_limit
        error = MemoryLimitExceeded(f"{name} had more than {limit} bytes of memory in use, and was ended", limit)
    elif kind == BROKEN:
        error = _bad_start(data)
    else:
        assert kind == CANCELLED, kind
        raise AssertionError("a cancelled task has no exception of ours")
    return describe_task(error, task)
