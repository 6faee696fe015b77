"""What does a piece of code leave behind?

    with no_leaks():
        run_something()

raises `Leak` if there are, after a short grace, more child processes, threads, open descriptors, entries in /dev/shm
or temporary files than before.  It reads /proc, so it needs Linux and nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from treadle.pool import memory

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

    def joined(self, other: Belongings) -> Belongings:
        """What is here or there."""
        return Belongings(
            self.processes | other.processes,
            self.threads | other.threads,
            self.descriptors | other.descriptors,
            self.shared_memory | other.shared_memory,
            self.temporary | other.temporary,
        )

    def __bool__(self) -> bool:
        return any(tuple(self))

    def describe(self, kinds: Collection[str] | None = None) -> str:
        """A line for each kind (of those in `kinds`) of which there is something."""
        lines = []
        for kind, things in zip(self._fields, self, strict=True):
            if things and (kinds is None or kind in kinds):
                lines.append(f"{kind.replace('_', ' ')}: {', '.join(sorted(map(str, things)))}")
        return "\n".join(lines)


def belongings() -> Belongings:
    """What this process has now.  What lives as long as the program, and is shared by all of it, does not count: the
    nursery, the fork server, the resource tracker."""
    spared = _helpers()
    children = frozenset((pid, name) for pid, name in descendants(os.getpid()) if pid not in spared)
    threads = frozenset((t.ident or 0, t.name) for t in threading.enumerate())
    temporary = _listing(tempfile.gettempdir()) - _helpers_folder()
    return Belongings(children, threads, _descriptors(), _listing("/dev/shm"), temporary)


def _helpers() -> set[int | None]:
    from ..pool.launch.client import program

    pids = {program.pid}
    for module, name, attribute in (
        ("forkserver", "_forkserver", "_forkserver_pid"),
        ("resource_tracker", "_resource_tracker", "_pid"),
    ):
        if (found := sys.modules.get(f"multiprocessing.{module}")) is not None:
            pids.add(getattr(getattr(found, name), attribute))
    return pids


def _helpers_folder() -> set[str]:
    """Where multiprocessing has its sockets; it removes it when the program ends."""
    if (found := sys.modules.get("multiprocessing.process")) is None:
        return set()
    return {str(found.current_process()._config.get("tempdir"))}


def _helpers_descriptors() -> set[int | None]:
    fds: set[int | None] = set()
    if (found := sys.modules.get("treadle.multiprocessing.lifeline")) is not None:
        fds |= found.spared()
    for module, name, attribute in (
        ("forkserver", "_forkserver", "_forkserver_alive_fd"),
        ("resource_tracker", "_resource_tracker", "_fd"),
    ):
        if (found := sys.modules.get(f"multiprocessing.{module}")) is not None:
            fds.add(getattr(getattr(found, name), attribute))
    return fds


def descendants(pid: int) -> list[tuple[int, str]]:
    """Every living process below `pid`, with its command line; zombies are dead, so they don't count."""
    children = _children if Path(f"/proc/self/task/{os.getpid()}/children").exists() else _everybodys().get
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child in children(todo.pop()) or ():
            if child not in found and _lives(child):
                found[child] = command_line(child)
                todo.append(child)
    return list(found.items())


def _children(pid: int) -> set[int]:
    """The kernel's list of them may miss one while another one ends: so it counts when it says the same twice."""
    before = None
    while (now := set(memory.children(pid))) != before:
        before = now
    return now


def _everybodys() -> dict[int, set[int]]:
    """The same for all processes, where the kernel was built without such lists."""
    children: dict[int, set[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), set()).add(int(entry.name))
    return children


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def command_line(pid: int) -> str:
    """The command line of a process, cut at 80 characters; '' if it is gone."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return ""


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    spared = _helpers_descriptors()
    for name in os.listdir("/proc/self/fd"):
        if int(name) in spared:
            continue
        with contextlib.suppress(OSError):  # the one that lists the folder
            found.add((int(name), str(Path(f"/proc/self/fd/{name}").readlink())))
    return frozenset(entry for entry in found if not entry[1].startswith("/proc/"))


def _listing(folder: str) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(f"{folder}/{name}" for name in os.listdir(folder))
    return frozenset()


@contextlib.contextmanager
def no_leaks(grace: float = GRACE_SECONDS, kinds: Collection[str] | None = None) -> Iterator[None]:
    """Raise `Leak` if the block leaves anything (of those in `kinds`) behind for longer than `grace` seconds."""
    _warm_up()
    before = belongings()
    yield
    if left := left_behind(before, grace, kinds):
        raise Leak(f"left behind after {grace:g} s:\n{left}")


def left_behind(before: Belongings, grace: float = GRACE_SECONDS, kinds: Collection[str] | None = None) -> str:
    """What there still is after `grace` seconds, and was not `before`, a line for each kind (of those in `kinds`, which
    are names of fields of `Belongings`); "" if there is nothing, which is said as soon as it is so.

    Shared memory that a process has open which is none of ours is that one's: tests may run in parallel."""
    _let_go()
    until = time.monotonic() + grace
    while text := _ours(belongings().without(before)).describe(kinds):
        gc.collect()  # what only garbage holds is not left behind
        if time.monotonic() > until:
            return text
        time.sleep(0.01)
    return ""


def _ours(left: Belongings) -> Belongings:
    """Without the shared memory that processes have open which are not ours."""
    if not left.shared_memory:
        return left
    ours = {os.getpid(), *(pid for pid, _ in descendants(os.getpid()))}
    others: set[str] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) in ours:
            continue
        with contextlib.suppress(OSError):
            lines = (entry / "maps").read_text(errors="replace").splitlines()
            others |= {line[line.index("/dev/shm/") :] for line in lines if "/dev/shm/" in line}
        with contextlib.suppress(OSError):
            for link in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    others.add(str(link.readlink()))
    return left._replace(shared_memory=left.shared_memory - others)


def _warm_up() -> None:
    """Have what lives as long as the program, so that it is not taken for a leak of the first test that needs it."""
    from .. import _native  # noqa: F401 - the session's board
    from ..pool.launch.client import program

    program.connect().close()
    _let_go()


def _let_go() -> None:
    """What `treadle.map` keeps for the next one is not left behind: close it, and see that it goes.  The same for the
    thread that watches callbacks."""
    if (found := sys.modules.get("treadle.pool.warm")) is not None:
        found.close()
    if (found := sys.modules.get("treadle.pool.watchdog")) is not None:
        found.watchdog.rest()
