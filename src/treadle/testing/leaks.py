"""What does a piece of code leave behind?

    with no_leaks():
        run_something()

raises `Leak` if there are, after a short grace, more child processes, threads, open descriptors, entries in /dev/shm
or temporary files than before.  It reads /proc, so it needs Linux and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GRACE_SECONDS = 2.0  # how long a process or a thread may take to end
_PROC = Path("/proc")


class Leak(AssertionError):
    """Something was left behind; the message lists it."""


class Belongings(NamedTuple):
    """What a process has at one moment.  Each is a set of keys that stay the same while the thing lives."""

    processes: frozenset[tuple[int, str]]
    threads: frozenset[tuple[int, str]]
    descriptors: frozenset[tuple[int, str]]
    shared_memory: frozenset[str]
    temporary: frozenset[str]

    def without(self, other: Belongings) -> Belongings:
        """What is here and not there."""
        return Belongings(
            self.processes - other.processes,
            self.threads - other.threads,
            self.descriptors - other.descriptors,
            self.shared_memory - other.shared_memory,
            self.temporary - other.temporary,
        )

    def __bool__(self) -> bool:
        return any(tuple(self))

    def describe(self) -> str:
        """A line for each kind of which there is something."""
        lines = []
        for kind, things in zip(self._fields, self, strict=True):
            if things:
                lines.append(f"{kind.replace('_', ' ')}: {', '.join(sorted(map(str, things)))}")
        return "\n".join(lines)


def belongings() -> Belongings:
    """What this process has now.  The nursery, which every pool of the program shares, does not count."""
    spared = _nursery()
    children = frozenset((pid, name) for pid, name in descendants(os.getpid()) if pid != spared)
    threads = frozenset((t.ident or 0, t.name) for t in threading.enumerate())
    return Belongings(children, threads, _descriptors(), _listing("/dev/shm"), _listing(tempfile.gettempdir()))


def _nursery() -> int | None:
    from ..pool.launch.client import program

    return program.pid


def descendants(pid: int) -> list[tuple[int, str]]:
    """Every living process below `pid`, with its command line; zombies are dead, so they don't count."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            todo.append(child)
            found.append((child, command_line(child)))
    return found


def command_line(pid: int) -> str:
    """The command line of a process, cut at 80 characters; '' if it is gone."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return ""


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists the folder
            found.add((int(name), str(Path(f"/proc/self/fd/{name}").readlink())))
    return frozenset(entry for entry in found if not entry[1].startswith("/proc/"))


def _listing(folder: str) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(f"{folder}/{name}" for name in os.listdir(folder))
    return frozenset()


@contextlib.contextmanager
def no_leaks(grace: float = GRACE_SECONDS) -> Iterator[None]:
    """Raise `Leak` if the block leaves anything behind for longer than `grace` seconds."""
    _warm_up()
    before = belongings()
    yield
    until = time.monotonic() + grace
    while left := belongings().without(before):
        if time.monotonic() > until:
            raise Leak(f"left behind after {grace:g} s:\n{left.describe()}")
        time.sleep(0.01)


def _warm_up() -> None:
    """Have what lives as long as the program, so that it is not taken for a leak of the first test that needs it."""
    from .. import _native  # noqa: F401 - the session's board
    from ..pool.launch.client import program

    program.connect().close()
