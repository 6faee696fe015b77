"""One task, from submit to its single end."""

from __future__ import annotations

from typing import Any, Protocol

from .._native import _core
from .options import DEFAULT

# Where a task stands.  Invariant: NEW (the brain has not taken it in) -> QUEUED -> ASSIGNED -> DONE, back from ASSIGNED
# to QUEUED only when it did not start or has retries left, and nothing ever leaves DONE.  On the way to a retry it may
# be WAITING: for its back-off to pass, or for the word whether its exception is worth one.
NEW, QUEUED, ASSIGNED, DONE, WAITING = 0, 1, 2, 3, 4

# How a task (or one attempt at it) ended, and what comes with it.
RETURNED = 0  # its value
RAISED = 1  # its exception
RETURNED_PACKED = 2  # its value, pickled by a worker process
RAISED_PACKED = 3  # its exception, packed by a worker process (failures.pack)
DIED = 4  # an Exit: its worker ended while it ran
TIMED_OUT = 5  # an Exit, or None: it ran longer than its time-out
CANCELLED = 6  # None: it never started, or the pool was terminated
BROKEN = 7  # a str or a BadStart: no worker could be started
UNLOADABLE = 8  # to sinks only: it returned, and what was raised when its value was loaded here
OVER_MEMORY = 9  # an Exit: it had more memory than its limit allows
PART = 10  # of a run: (index, [value or Odd, ...], nanoseconds): so some of its items have ended, from that one on


class Sink(Protocol):
    """Where a task's end is delivered: a future, or a slot of a map.  Called once, from any thread."""

    def deliver(self, task: Task, kind: int, data: Any) -> None: ...


# A call and a task are structures in C (`_native/tasks/task_object.c`): the pool's hot paths read and write them there.
#
# A task may be a run: several items of a map, all of them without options, whose calls have one function.  They have a
# number each, `count` of them from `first` on, in the order of running; `_native/tasks/run.h` says why that is exact.
# The `args` of its call are a list, one tuple an item.  Its sink is told of its items in parts.  One that can't go on
# as a whole is split: `rest` is then a run of its own.
#
# Call(fn, args, kwargs, function=None, payload=None, context=None, variables=None): a function and its arguments, and
# for a process their pickled form; these two are None where only the thread engine will run it.  `context` is that of
# the submit (None: no variable was set in it), `variables` the same for a process (see `contexts.VariableTable`).
#
# Task(call, sink, index=None, options=DEFAULT): what the pool knows of one call.
#   index     its place in the input of a map; None for submit
#   options   `DEFAULT` itself where there are none
#   item      the input as its user thinks of it: the one argument, or the tuple of them
# Only the brain (`state.State`) changes these:
#   state     where it stands, see above
#   worker    Invariant: not None exactly while ASSIGNED
#   attempts  Invariant: 0 <= attempts <= 1 + options.retries; counts attempts that started or may have
#   losses    workers that ended, running nothing, when this was their next task
#   more      whatever else a rule has to remember of it; None for most tasks
#   cut       of a run: its worker has more items of it, which were taken back
#   done      of a run: how many of its items have ended
# And `pid` is that of the process that ran the last attempt.
Call = _core.Call
Task = _core.Task
_core.hook("default_options", DEFAULT)
