"""What the core calls when threads wait for each other in a circle: the story that is raised or warned of."""

from __future__ import annotations

import os
import warnings

from treadle._native import _core
from treadle._native.waits import Wait, wait_of
from treadle.errors import DeadlockError, DeadlockWarning, LockRecoveredWarning, OwnerDied

__all__ = ["deadlock_mode", "on_cycle", "on_orphan", "on_recovery"]

RLOCK = 2  # enum tl_kind in board.h
MODES = {"off": 0, "warn": 1, "raise": 2}
_mode = "raise"


def deadlock_mode(mode: str) -> None:
    """What to do about deadlocks from now on: ``"raise"`` (the default), ``"warn"`` or ``"off"``.

    The environment variable TREADLE_DEADLOCK says the same for a whole program.
    """
    global _mode
    if mode not in MODES:
        raise ValueError(f"deadlock mode {mode!r}: one of {', '.join(MODES)} is needed")
    _core.deadlock_mode(MODES[mode])
    _mode = mode


def on_cycle(members: list[tuple[int, int, bool]]) -> BaseException | None:
    """The core has confirmed a cycle: (record, owner it waits for, whether that took the lock by a bare acquire).

    Runs in the thread that is to give up.  The exception to raise there, or None to go on waiting.
    """
    waits = [wait for record, _, _ in members if (wait := wait_of(_core.board_record(record))) is not None]
    if len(waits) != len(members):
        return None  # somebody has just got away: no deadlock after all
    bare = any(bare for _, _, bare in members)
    message = story(waits)
    if bare:
        message += "\nOnly somebody who releases a lock that was taken by a bare acquire() can end this."
    if bare or _mode == "warn":
        warnings.warn(DeadlockWarning(message), stacklevel=2)
        return None
    return DeadlockError(message, tuple(waits))


def story(waits: list[Wait]) -> str:
    """The report, for people: each member waits for the next one, the last for the first."""
    if len(waits) == 1:
        wait = waits[0]
        return f"Deadlock: {wait.who} waits for {wait.what}, which it holds itself.\n{_stack(wait)}".rstrip()
    lines = [f"Deadlock: {len(waits)} threads wait for each other; none can ever go on."]
    for i, wait in enumerate(waits):
        held = waits[i - 1].what if waits[i - 1].kind != "join" else ""
        owner = waits[(i + 1) % len(waits)].who
        lines.append(f"\n{wait.who}")
        if held:
            lines.append(f"  holds      {held}")
        lines.append(f"  waits for  {wait.what}" + (f", held by {owner}" if wait.kind != "join" else ""))
        lines.append(f"  since      {wait.seconds:.3f} s")
        if stack := _stack(wait):
            lines.append(stack)
    return "\n".join(lines)


def _stack(wait: Wait) -> str:
    if not wait.stack:
        return ""
    return "  at         " + "\n             ".join(wait.stack)


def on_orphan(what: str, kind: int, bare: bool) -> BaseException | None:
    """The owner of a lock of this process has ended without releasing it."""
    text = f"{what} is held by a thread that has ended (or that a fork left behind in the parent process)"
    if kind == RLOCK:
        return OwnerDied(f"{text}, and nobody else may release it")
    warnings.warn(DeadlockWarning(f"{text}; this thread goes on waiting for it"), stacklevel=2)
    return None


def on_recovery(what: str, raises: bool) -> BaseException | None:
    """A shared lock was taken over from a process that was killed."""
    if raises:
        return OwnerDied(f"{what} was held by a process that died; what it guards may be half changed")
    warnings.warn(LockRecoveredWarning(f"{what} was held by a process that died; it was taken over"), stacklevel=2)
    return None


def install() -> None:
    """Tell the core whom to call."""
    _core.hook("on_cycle", on_cycle)
    _core.hook("on_orphan", on_orphan)
    _core.hook("on_recovery", on_recovery)
    deadlock_mode(os.environ.get("TREADLE_DEADLOCK", "") or "raise")
