"""Every exception of treadle, grouped by whose fault it is.

Each subclasses the standard library's exception for the same situation, so an existing ``except`` still works.
An exception that comes out of a task, ours or the user's own, carries the attribute ``task``: a `TaskFailure` with
the item, its index, the number of attempts, the worker's pid and the traceback of the place where it was raised.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import BrokenExecutor
from pickle import PicklingError, UnpicklingError
from typing import Any, NoReturn

__all__ = [
    "TreadleError", "TaskFailure", "RemoteTraceback", "failure",
    "WorkerDied", "ProcessDied", "TaskTimeout", "MemoryLimitExceeded", "RemoteError",
    "TaskNotPicklable", "TaskNotLoadable", "ResultNotPicklable", "ResultNotLoadable",
    "PoolClosed", "ManagerClosed", "WorkerStartError", "Unsupported", "EngineMissing", "ModuleRefused",
    "ClusterLost",
    "DeadlockError", "DeadlockWarning", "Interrupted", "OwnerDied", "LockRecoveredWarning", "SharedObjectGone",
]  # fmt: skip


class TreadleError(Exception):
    """The base of every exception that treadle itself raises."""

    # All are pickled as any exception is, by the message and then all attributes.  Invariant, of each class below: what
    # its constructor takes beside the message has a default and becomes an attribute.


class TaskFailure:
    """Where and on what a task failed.  It is the attribute ``task`` of the exception.

    `item` is the input: the single argument for a `map` over one iterable, the tuple of arguments otherwise.
    `index` is its place in the input (None outside `map`).  `pid` is the worker process (None if it never ran).
    """

    __slots__ = ("item", "index", "attempts", "pid", "traceback")
    __match_args__ = ("item", "index", "attempts", "pid", "traceback")

    item: Any
    index: int | None
    attempts: int
    pid: int | None
    traceback: str

    # By hand: importing `dataclasses` would take a program that starts as long as all of this package.
    def __init__(
        self, item: Any = None, index: int | None = None, attempts: int = 1, pid: int | None = None, traceback: str = ""
    ) -> None:
        put = object.__setattr__
        put(self, "item", item)
        put(self, "index", index)
        put(self, "attempts", attempts)
        put(self, "pid", pid)
        put(self, "traceback", traceback)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a TaskFailure says what was, and does not change: {name}")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def _values(self) -> tuple[Any, ...]:
        return self.item, self.index, self.attempts, self.pid, self.traceback

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, TaskFailure) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskFailure, self._values()

    def __repr__(self) -> str:  # without the traceback
        return f"TaskFailure(item={self.item!r}, index={self.index}, attempts={self.attempts}, pid={self.pid})"

    def note(self) -> str:
        """One line for the end of a traceback."""
        where = "" if self.index is None else f"item {self.index} = "
        again = "" if self.attempts == 1 else f", attempt {self.attempts}"
        worker = "" if self.pid is None else f", worker pid {self.pid}"
        return f"treadle: {where}{shorten(self.item)}{again}{worker}"


def failure(error: BaseException) -> TaskFailure | None:
    """The `TaskFailure` that `error` carries, or None if it did not come out of a task."""
    info = getattr(error, "task", None)
    return info if isinstance(info, TaskFailure) else None


def shorten(value: object, limit: int = 80) -> str:
    """`repr(value)` on one line of at most `limit` characters; never raises."""
    try:
        text = repr(value)
    except Exception as error:  # a broken __repr__ must not hide the error that is being described
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


class RemoteTraceback(Exception):
    """The ``__cause__`` of an exception that was raised in a worker process: its traceback, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def tb(self) -> str:
        """The text again, under the name that it has in `multiprocessing.pool`."""
        return self.text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# -- a task's own fault, or its worker's ------------------------------------------------------------------------------


class WorkerDied(TreadleError, BrokenExecutor):
    """The worker ended while it ran this task: a signal, ``os._exit``, ``sys.exit`` or a crash in C code.

    `exitcode` is as in `multiprocessing.Process.exitcode`: the exit status, or minus the signal's number;
    None when it could not be learned.
    """

    def __init__(self, message: str, pid: int | None = None, exitcode: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended the worker, if one did."""
        return _signal_of(self.exitcode)


class ProcessDied(TreadleError, ChildProcessError):
    """A `Process` ended before its target had returned or raised: a signal, ``os._exit``, ``sys.exit`` with a code.

    `exitcode` is that of the process: the exit status, or minus the signal's number.
    """

    def __init__(self, message: str, pid: int | None = None, exitcode: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended the process, if one did."""
        return _signal_of(self.exitcode)


def _signal_of(exitcode: int | None) -> signal.Signals | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode)
    except ValueError:
        return None


def describe_exit(exitcode: int | None) -> str:
    """``'was killed by SIGKILL'``, ``'exited with code 3'``: the words for an exit code."""
    if exitcode is None:
        return "ended for an unknown reason"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


class TaskTimeout(TreadleError, TimeoutError):
    """The task ran longer than its `timeout` (seconds).  A process was killed for it, a thread was left alone."""

    def __init__(self, message: str, timeout: float | None = None) -> None:
        super().__init__(message)
        self.timeout = timeout


class MemoryLimitExceeded(TreadleError, MemoryError):
    """The task wanted more memory than its `memory_limit` (bytes)."""

    def __init__(self, message: str, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class RemoteError(TreadleError):
    """Stands in for an exception of a task that could not be pickled, or not be rebuilt on this side.

    `type_name` is the original's qualified name; the message is the original's text.
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name


class TaskNotPicklable(TreadleError, PicklingError):
    """The function or an argument can't be pickled; the task was not started."""


class TaskNotLoadable(TreadleError, UnpicklingError):
    """The function or an argument was pickled, but a worker can't load it; the function was not called."""


class ResultNotPicklable(TreadleError, PicklingError):
    """The task returned something that can't be pickled.

    `value` is a text for what it returned, `reason` one for what pickling it raised.
    """

    def __init__(self, message: str, value: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.value = value
        self.reason = reason


class ResultNotLoadable(TreadleError, UnpicklingError):
    """The task's result arrived, but this process can't load it."""


# -- the caller's fault -----------------------------------------------------------------------------------------------


class PoolClosed(TreadleError, RuntimeError):
    """The pool was shut down (or belongs to another process), so it takes no more tasks."""


class Unsupported(TreadleError, ValueError, NotImplementedError):
    """The engine can't do what was asked for; `engine` and `option` say which, the message says why."""

    def __init__(self, message: str, engine: str = "", option: str = "") -> None:
        super().__init__(message)
        self.engine = engine
        self.option = option


class EngineMissing(TreadleError, ImportError):
    """The engine needs packages that are not installed; the message says which command installs them."""


class ModuleRefused(TreadleError, ImportError):
    """A module that the call needs refuses to be loaded in a subinterpreter; `name` says which one."""


class ManagerClosed(TreadleError, ConnectionRefusedError):
    """The manager was shut down in this process, so its objects can't be used here any more."""


class DeadlockError(TreadleError, RuntimeError):
    """Threads wait for each other in a circle; this one gave up so that the others go on.

    The message tells for each thread what it holds, what it waits for, since when, and where.  `cycle` has the same as
    data: a `treadle.diagnose.Wait` for each thread, each waiting for the next one.
    """

    def __init__(self, message: str, cycle: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.cycle = cycle


class DeadlockWarning(RuntimeWarning):
    """Threads wait for each other in a circle that only a release by somebody else could open.

    A lock taken by a bare ``acquire()`` may be released by any thread, so this is no error, only very likely one.
    """


class Interrupted(BaseException):
    """Raised in a thread by `Thread.interrupt()`.

    A `BaseException`, like `KeyboardInterrupt`, so that ``except Exception`` around a step does not swallow it.
    """


# -- somebody else's fault --------------------------------------------------------------------------------------------


class OwnerDied(TreadleError, RuntimeError):
    """The owner of a lock ended without releasing it.

    An RLock of a thread that has ended stays locked: nobody else may release it.  A lock in shared memory whose process
    died is free again when this is raised; what it guards may be half changed.
    """


class LockRecoveredWarning(RuntimeWarning):
    """The process that held this shared lock was killed; it was taken over, and what it guards may be half changed."""


class SharedObjectGone(TreadleError, FileNotFoundError):
    """A pickled shared object (a lock, an event, ...) was loaded after its last holder had dropped it."""


# -- the environment's fault ------------------------------------------------------------------------------------------


class WorkerStartError(TreadleError, BrokenExecutor):
    """No worker gets ready to work: they end before, again and again, or their initializer fails; the message says how.

    What the initializer has raised is the ``__cause__``.
    """


class ClusterLost(WorkerStartError, ConnectionError):
    """The cluster that the pool runs on can't be reached, or can't be reached any more."""


# -- the standard library's pools have names for some of these --------------------------------------------------------


def adopt_stdlib_names() -> None:
    """Make the errors of pools instances of `BrokenProcessPool` and `BrokenThreadPool` too.

    These live in modules that load much of the standard library, so they are only loaded when there is such an error.
    A class that is given another base changes for its existing instances as well.  Idempotent, from any thread.
    """
    if BrokenExecutor not in WorkerDied.__bases__:
        return
    try:
        from concurrent.futures.process import BrokenProcessPool
        from concurrent.futures.thread import BrokenThreadPool
    except Exception:  # the program is ending, and what is not loaded can't be had any more
        return
    interpreters = sys.modules.get("concurrent.futures.interpreter")  # a BrokenThreadPool too, of 3.14 and later
    thread: type[BrokenExecutor] = getattr(interpreters, "BrokenInterpreterPool", BrokenThreadPool)
    TaskNotLoadable.__bases__ = (TreadleError, UnpicklingError, BrokenProcessPool)
    ResultNotLoadable.__bases__ = (TreadleError, UnpicklingError, BrokenProcessPool)
    WorkerStartError.__bases__ = (TreadleError, BrokenProcessPool, thread)
    WorkerDied.__bases__ = (TreadleError, BrokenProcessPool, thread)  # the last: it says that all is done
