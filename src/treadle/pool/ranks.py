"""A queue of tasks with priorities, with as much of a deque's interface as the brain uses."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator

from .task import Task


class Ranks:
    """The highest `options.priority` comes out first; within one, first in, first out.  Not thread-safe."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._lines: dict[int, deque[Task]] = {}  # by priority.  Invariant: none of them is empty
        self._order: list[int] = []  # Invariant: the keys of `_lines`, ascending
        self._count = 0  # Invariant: how many there are in all lines
        self.extend(tasks)

    def extend(self, tasks: Iterable[Task]) -> None:
        """Each goes to the end of those of its priority."""
        for task in tasks:
            self._line(task.options.priority).append(task)
            self._count += 1

    def appendleft(self, task: Task) -> None:
        """It goes before all others of its priority."""
        self._line(task.options.priority).appendleft(task)
        self._count += 1

    def popleft(self) -> Task:
        """Take the next one.  Raises IndexError if there is none."""
        rank = self._order[-1]
        line = self._lines[rank]
        task = line.popleft()
        self._count -= 1
        if not line:
            del self._lines[rank]
            self._order.pop()
        return task

    def clear(self) -> None:
        """Drop them all."""
        self._lines.clear()
        self._order.clear()
        self._count = 0

    def _line(self, rank: int) -> deque[Task]:
        line = self._lines.get(rank)
        if line is None:
            line = self._lines[rank] = deque()
            insort(self._order, rank)
        return line

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        for rank in reversed(self._order):
            yield from self._lines[rank]
