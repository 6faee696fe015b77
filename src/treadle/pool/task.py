"""One task, from submit to its single end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

# Where a task stands.  Invariant: NEW (the brain has not taken it in) -> QUEUED -> ASSIGNED -> DONE, back from ASSIGNED
# to QUEUED only when it did not start or has retries left, and nothing ever leaves DONE.
NEW, QUEUED, ASSIGNED, DONE = 0, 1, 2, 3

# How a task (or one attempt at it) ended, and what comes with it.
RETURNED = 0  # its value
RAISED = 1  # its exception
RETURNED_PACKED = 2  # its value, pickled by a worker process
RAISED_PACKED = 3  # its exception, packed by a worker process (failures.pack)
DIED = 4  # an Exit: its worker ended while it ran
TIMED_OUT = 5  # an Exit, or None: it ran longer than its time-out
CANCELLED = 6  # None: it never started, or the pool was terminated
BROKEN = 7  # a str: no worker could be started

FAILURES = frozenset({RAISED, RAISED_PACKED, DIED, TIMED_OUT, BROKEN})


class Sink(Protocol):
    """Where a task's end is delivered: a future, or a slot of a map.  Called once, from any thread."""

    def deliver(self, task: Task, kind: int, data: Any) -> None: ...


class Call:
    """A function and its arguments, and for a process their pickled form.

    `function` and `payload` are None where only the thread engine will run it.
    """

    __slots__ = ("fn", "args", "kwargs", "function", "payload")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        function: Any = None,
        payload: bytes | None = None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.function = function
        self.payload = payload


class Task:
    """What the pool knows of one call.  Only the brain (`state.State`) changes the second group of fields."""

    __slots__ = ("call", "sink", "index", "timeout", "retries", "state", "worker", "attempts", "losses", "pid")

    def __init__(
        self, call: Call, sink: Sink, index: int | None = None, timeout: float | None = None, retries: int = 0
    ) -> None:
        self.call = call
        self.sink = sink
        self.index = index  # its place in the input of a map; None for submit
        self.timeout = timeout  # seconds an attempt may run; None: for ever
        self.retries = retries  # further attempts allowed after the first

        self.state = NEW
        self.worker: int | None = None  # Invariant: not None exactly while ASSIGNED
        self.attempts = 0  # Invariant: 0 <= attempts <= 1 + retries; counts attempts that started or may have
        self.losses = 0  # workers that ended, running nothing, when this was their next task
        self.pid: int | None = None  # of the process that ran the last attempt

    @property
    def item(self) -> Any:
        """The input as its user thinks of it: the one argument, or the tuple of them."""
        args = self.call.args
        if len(args) == 1 and not self.call.kwargs:
            return args[0]
        return args

    def __repr__(self) -> str:
        name = getattr(self.call.fn, "__name__", repr(self.call.fn))
        return f"<Task {name} index={self.index} state={('new', 'queued', 'assigned', 'done')[self.state]}>"
