"""Gauges: figures of locks and of the queues of one process, which a program keeps while somebody watches.

A program that nobody watches keeps none, so they begin with the first look, and a second one is needed to see anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from treadle._native import _core

from . import processes

__all__ = ["Gauge", "watch"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """An object's figures since the watch began.

    `pid` is 0 for what several processes share.  Of a queue (`kind` "get"): how many items were `put` and `taken` in
    its whole life, the same when this was first seen, and its `maxsize`.  Of anything else: how many `waits` ended with
    what they were for, and after how many seconds in all; and of a lock's `holds` that began with a wait, the same.
    """

    pid: int
    object: int
    kind: str
    name: str
    put: int
    taken: int
    put_before: int
    taken_before: int
    maxsize: int
    waits: int
    waited: float
    holds: int
    held: float


def watch(pid: int, seconds: float) -> list[Gauge]:
    """What there is now, of the session of that process; and let it go on for so many seconds."""
    for board in processes.boards():
        if pid in board.pids:
            try:
                _core.board_watch(board.path, seconds)
                return _merged([Gauge(*figures) for figures in _core.board_gauges(board.path)])
            except OSError:  # it has just ended, or there is no memory for it
                break
    return []


def _merged(gauges: list[Gauge]) -> list[Gauge]:
    """Two threads that were the first at the same moment may have made one each."""
    found: dict[tuple[int, int], Gauge] = {}
    for new in gauges:
        old = found.get((new.pid, new.object))
        if old is not None:
            new = Gauge(
                new.pid, new.object, new.kind, new.name, max(old.put, new.put), max(old.taken, new.taken),
                min(old.put_before, new.put_before), min(old.taken_before, new.taken_before), new.maxsize,
                old.waits + new.waits, old.waited + new.waited, old.holds + new.holds, old.held + new.held,
            )  # fmt: skip
        found[new.pid, new.object] = new
    return list(found.values())
