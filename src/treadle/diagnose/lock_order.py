"""Lock order: which locks were taken while holding which, and a report when that happens both ways round.

Two threads that take two locks in different orders deadlock only if they meet in the middle; this notices it although
they never do.  As the Linux kernel's lockdep does, it thinks in *classes*: all locks that were made by the same line of
the program, or have the same name, are one, so that it is enough that some lock of one class was taken while one of the
other was held, and once the other way round, even over several steps (a before b, b before c, c before a).  Locks of
the same class, accounts or the forks of philosophers say, are told apart: there the order of the very same objects
counts, over several steps too.

An attempt that does not wait (`acquire(blocking=False)`) can't deadlock: it is no step of an order, but what it has got
is held by those that follow.  One with a time-out counts: that it gives up in the end makes it no better.

What is not seen: locks of other kinds (those in shared memory, conditions that are used as locks), and orders that
never came about.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any

from treadle._native import _core

__all__ = ["VARIABLE", "Inversion", "Step", "begin", "inversions"]

VARIABLE = "TREADLE_LOCK_ORDER"
DEEP = 12  # frames of a stack
MOST_PAIRS = 10_000  # of single objects; then the oldest are forgotten
MOST_LOOKED_AT = 1_000  # on the way from one object back to another: each new pair looks

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120 - text
_Frames = tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """In `thread`, `taken` was taken at `taken_at` while `held` was held since `held_at`.  Innermost call last."""

    thread: str
    held: str
    held_at: _Frames
    taken: str
    taken_at: _Frames


@dataclass(frozen=True, slots=True)
class Inversion:
    """Steps that make a circle, the last of them new: locks that were taken in different orders."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        new, *old = reversed(self.steps)
        where = "one after the other" if len(old) > 1 else "the other way round"
        lines = [f"treadle: lock order: {new.taken} is taken while {new.held} is held, and before it was {where}."]
        lines.append("Threads that do so at the same time wait for each other for ever.")
        for when, step in (("now", new), *(("before", step) for step in reversed(old))):
            holds = "holds" if when == "now" else "held"
            lines.append(f"  {when}, thread {step.thread!r} {holds} {step.held}, taken at")
            lines += [f"      {file}:{line} in {name}" for file, line, name in step.held_at]
            lines.append(f"    and takes {step.taken} at" if when == "now" else f"    and took {step.taken} at")
            lines += [f"      {file}:{line} in {name}" for file, line, name in step.taken_at]
        return "\n".join(lines)


class _Here(threading.local):
    """What the calling thread holds."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[Any, Any, _Frames]] = {}  # id of the lock -> (lock, class, where it was taken)
        self.busy = False  # inside of the code here: its own locks, and those of finalizers, don't count


_here = _Here()
# Who holds a lock that another thread may release: id of the lock -> what that thread holds.
_holders: dict[int, dict[int, tuple[Any, Any, _Frames]]] = {}
_lock = _core.RLock(name="treadle: lock order")  # guards all below.  Signal handlers come here too.
_known: set[tuple[Any, Any]] = set()  # read without the lock; only grows, but for pairs of objects
_after: dict[Any, dict[Any, Step]] = {}  # class -> those that were taken while it was held
_pairs: dict[tuple[int, int], tuple[Any, Any]] = {}  # of one class: the locks themselves, so that ids stay theirs
_next: dict[int, dict[int, Step]] = {}  # as _after, of the objects in _pairs
_told: set[frozenset[Any]] = set()
_found: list[Inversion] = []
_began = False


def begin() -> None:
    """From now on, for good, in this process; each acquisition takes a few microseconds more.  Safe to call again."""
    global _began
    if not _began:
        _began = True
        _core.hook("order_before", _before)
        _core.hook("order_after", _took)
        _core.hook("order_released", _released)
        _core.order_watch()


def inversions() -> list[Inversion]:
    """Those that were found in this process so far."""
    with _lock:
        return list(_found)


def _class_of(lock: Any) -> Any:
    """Its name, or where it was made; None for treadle's own."""
    if lock.name is not None:
        return None if lock is _lock else lock.name
    place = _core.lock_place(lock)
    return None if place is None or place[0].startswith(_OURS) else place


def _text(lock: Any, kind: Any) -> str:
    name = f" {lock.name!r}" if lock.name is not None else ""
    place = _core.lock_place(lock) or ("?", 0)
    return f"{type(lock).__name__}{name} (made at {place[0]}:{place[1]})"


def _stack() -> _Frames:
    frames: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(frames) < DEEP:
        code = frame.f_code
        if not code.co_filename.startswith(_OURS) and code.co_filename != threading.__file__:
            frames.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(reversed(frames))


def _before(lock: Any) -> None:
    """The calling thread is about to wait for it."""
    here = _here
    if here.busy or not here.held or id(lock) in here.held:
        return
    here.busy = True
    try:
        kind = _class_of(lock)
        if kind is None:
            return
        for other, other_kind, held_at in list(here.held.values()):
            if other_kind is None:
                continue
            key = (id(other), id(lock)) if other_kind == kind else (other_kind, kind)
            if key not in _known:
                step = Step(
                    threading.current_thread().name, _text(other, other_kind), held_at, _text(lock, kind), _stack()
                )
                with _lock:
                    found = _pair(key, step, other, lock) if other_kind == kind else _learn(other_kind, kind, step)
                if found is not None:
                    _tell(found)
    finally:
        here.busy = False


def _learn(held: Any, taken: Any, step: Step) -> Inversion | None:
    """A step between two classes that was not known.  Is there a way back?"""
    _known.add((held, taken))
    _after.setdefault(held, {})[taken] = step
    way = _way(_after, taken, held)
    if way is None:
        return None
    return _inversion(frozenset((held, taken)), (*way, step))


def _way(after: dict[Any, dict[Any, Step]], start: Any, goal: Any, most: int | None = None) -> list[Step] | None:
    """The shortest way from one class, or object, to another; `most`: how many are looked at."""
    came: dict[Any, tuple[Any, Step] | None] = {start: None}
    line = [start]
    for here in line:  # which grows meanwhile
        if here == goal:
            steps = []
            at: Any = here
            while (back := came[at]) is not None:
                at, step = back
                steps.append(step)
            return steps[::-1]
        if most is not None and len(line) > most:
            break
        for following, step in after.get(here, {}).items():
            if following not in came:
                came[following] = here, step
                line.append(following)
    return None


def _pair(key: tuple[int, int], step: Step, held: Any, taken: Any) -> Inversion | None:
    """A step between two objects of one class.  Is there a way back?"""
    _known.add(key)
    _pairs[key] = held, taken
    _next.setdefault(key[0], {})[key[1]] = step
    if len(_pairs) > MOST_PAIRS:
        _forget(next(iter(_pairs)))
    way = _way(_next, key[1], key[0], MOST_LOOKED_AT)
    return None if way is None else _inversion(frozenset((_class_of(held),)), (*way, step))


def _forget(key: tuple[int, int]) -> None:
    _known.discard(key)
    del _next[key[0]][key[1]]
    if not _next[key[0]]:
        del _next[key[0]]
    del _pairs[key]


def _inversion(classes: frozenset[Any], steps: tuple[Step, ...]) -> Inversion | None:
    if classes in _told:  # once for each pair
        return None
    _told.add(classes)
    found = Inversion(steps)
    _found.append(found)
    return found


def _tell(found: Inversion) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{found}\n")
        sys.stderr.flush()


def _took(lock: Any) -> None:
    """The calling thread has it (again, if it is an RLock)."""
    here = _here
    if here.busy or id(lock) in here.held:
        return
    here.busy = True
    try:
        here.held[id(lock)] = lock, _class_of(lock), _stack()
        _holders[id(lock)] = here.held
    finally:
        here.busy = False


def _released(lock: Any) -> None:
    """Somebody has released it, who need not be who took it."""
    if _here.busy:
        return
    count = getattr(lock, "_recursion_count", None)
    if count is not None and count() > 0:
        return
    if _here.held.pop(id(lock), None) is None:  # the thread that took it was another one
        holder = _holders.pop(id(lock), None)
        if holder is not None:
            holder.pop(id(lock), None)
