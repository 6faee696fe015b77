"""How much memory a process has, and a bound for it.  Linux: all of it is read from /proc."""

from __future__ import annotations

import contextlib
import os
import resource

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _statm(pid: int | str) -> list[int]:
    """In pages: size, resident, shared, text, 0, data, 0.  Raises OSError if the process is gone."""
    fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [int(each) for each in os.read(fd, 256).split()]
    finally:
        os.close(fd)


def private() -> int:
    """Bytes of memory that this process has in use alone: resident, without what lies in files or shared memory."""
    fields = _statm("self")
    return (fields[1] - fields[2]) * _PAGE


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants have in use.  0 if it is gone."""
    try:
        total = _statm(pid)[1] * _PAGE
    except (OSError, IndexError):
        return 0
    todo = children(pid)
    while todo:
        child = todo.pop()
        with contextlib.suppress(OSError, IndexError):
            fields = _statm(child)
            total += (fields[1] - fields[2]) * _PAGE
            todo += children(child)
    return total


def children(pid: int) -> list[int]:
    """The direct children of a process; [] if it is gone, or where the kernel does not say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    found += map(int, file.read().split())
    return found


class Bound:
    """While it holds, this process can't map more than so many further bytes of private memory.

    The kernel refuses what is beyond (RLIMIT_DATA), however large the step and whoever asks: in Python it is a
    MemoryError.  What was allocated and given back before may be used again and is not counted.
    """

    def __init__(self, size: int) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = _statm("self")[5] * _PAGE + size
        for other in (self._soft, self._hard):
            if other != resource.RLIM_INFINITY:
                limit = min(limit, other)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, self._hard))

    def lift(self) -> None:
        """It holds no more.  Idempotent."""
        resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))
