"""What travels between the parent and a worker."""

from __future__ import annotations

from typing import Any

# A message: (kind, seq, a, b, payload); what a and b mean depends on the kind.  The payload is bytes, or a `Parcel`.
Frame = tuple[int, int, int, int, Any]

# Kinds are numbers from 1 to 253.  Those that the native core knows itself (_native/memory/lane.h) are marked with a
# star; all others are Python's affair on both sides, and a new one costs nothing but its name here.

# From the parent to the worker.
SETUP = 1  # payload: the pickled environment; the first frame of all
FUNCTION = 2  # seq: the function's id; payload: pickled function
FORGET = 3  # seq: the function's id, which will not be used again before it is sent again
TASK = 4  # * seq; a: the function's id; b: see below, 0 for a plain one; payload: the arguments
# A run: seq, and a as for TASK; b: how many items, in bit 15 whether each is the one argument of its call (else a tuple
# of all), and from bit 16 on the id of their context variables; payload: their arguments (`_native/tasks/run.h`).
# It is always plain.
RUN = 18  # *
STOP = 5  # nothing follows: leave
INITIALIZE = 10  # payload: a pickled function, and pickled arguments; comes after SETUP, before any task
MEMORY = 13  # a: bytes that the worker should stay below, and says SWOLLEN once where it does not
STREAM = 16  # seq: of a task that follows, and streams
MEMORY_LIMIT = 14  # seq: of a task that follows; a: bytes that it may allocate

# The bits of a TASK's b.  The native loop runs what is plain; all others are run by `worker.py`.
MEASURED = 1  # `busy.py` is to measure it
WATCHED = 2  # there is a limit of memory
VARIABLES = 2  # shift: the id of its context variables, which travel as a function that makes the context (0: none)

# From the worker to the parent.
READY = 6  # seq: pid
RETURNED = 7  # * seq; a: nanoseconds, b: of CPU time (0: not measured, see busy.py); payload: the value
RAISED = 8  # * the same; payload: failures.pack
SKIPPED = 9  # * seq; of a run: the first one that is passed over
INITIALIZED = 11  # the initializer has returned
ITEM = 17  # seq; payload: the next value that a task which streams has yielded
SWOLLEN = 15  # after a task: it has more memory than it should
NOT_INITIALIZED = 12  # payload: failures.pack; nothing follows, it leaves
