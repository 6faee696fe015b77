"""The first steps of a process that was started by spawn or forkserver.

What the parent sends is unpickled by the standard library's code; unpickling the `Parcel` brings the process here, in
the parent's treadle session, before anything else of the parcel is looked at.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from multiprocessing import context as stdlib_context
from multiprocessing import reduction
from typing import Any, NamedTuple

from treadle import first_steps, handles

from ..pool import main_module
from ..pool.main_module import Plan
from . import contexts, lifeline
from .outcome import RAISED, Outcome

__all__ = ["Facts", "Parcel", "unpack"]


class Facts(NamedTuple):
    """What a new process has to know before it loads its target and arguments."""

    line: Any  # the read end of the pipe that its life hangs on, as reduction.DupFd
    kin: bool  # see lifeline.hold
    outcome: Outcome
    start_method: str | None  # what the program has chosen, if it has
    stdlib_start_method: str | None
    environment: dict[str, str] | None  # None: it has inherited the right one
    plan: Plan
    things: dict[str, bytes]
    steps: str  # see first_steps


class Parcel:
    """Pickles as a call of `unpack` in the new process."""

    def __init__(self, facts: Facts, blob: bytes) -> None:
        self._facts = facts
        self._blob = blob

    def __reduce__(self) -> tuple[Any, ...]:
        return handles.reduced("treadle.multiprocessing.arrival:unpack", tuple(self._facts), self._blob)


def line_for_child() -> Any:
    """For `Facts.line`, while the process is being started."""
    return reduction.DupFd(lifeline.end_for_children())


def unpack(facts: tuple[Any, ...], blob: bytes) -> Any:
    """In the new process: arrange it, and return the process object, whose `_bootstrap` is called next."""
    line, kin, outcome, start_method, stdlib_start_method, environment, plan, things, steps = facts
    lifeline.hold(line.detach(), kin)
    if environment is not None:
        _set_environment(environment)
    contexts.default._actual_context = None if start_method is None else contexts.CONCRETE[start_method]
    if stdlib_start_method is not None:
        stdlib_context._force_start_method(stdlib_start_method)
    first_steps.take(steps)
    main_module.install(plan, things)
    try:
        obj, by_value = pickle.loads(blob)
    except BaseException as error:
        from ..pool import failures

        with contextlib.suppress(OSError, MemoryError):  # then the parent learns the exit code only
            outcome.write(RAISED, failures.pack(error))
        raise
    main_module.bind(by_value)
    obj._outcome = outcome
    return obj


def _set_environment(wanted: dict[str, str]) -> None:
    mine = os.environ.get(handles.VARIABLE)
    os.environ.clear()
    os.environ.update(wanted)
    if mine is not None:
        os.environ[handles.VARIABLE] = mine
