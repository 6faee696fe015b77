"""Processes and threads as the kernel shows them to anybody of the same user: /proc, read only."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from treadle._native.waits import board_of

from .handlers import handled

__all__ = ["Board", "KernelThread", "Seen", "boards", "exists", "look", "owner_name"]

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATES = {
    "R": "running", "S": "sleeping", "D": "disk", "T": "stopped", "t": "traced", "Z": "zombie", "X": "dead",
    "I": "idle",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelThread:
    """A thread as the kernel sees it: its state in a word, the CPU time it has had, and where it sleeps."""

    tid: int
    name: str
    state: str
    cpu_seconds: float
    sleeps_in: str  # a function of the kernel's; "" if it runs, or if the kernel doesn't tell


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as the kernel sees it.  `rss` is in bytes; `handles` are the signals that its program handles."""

    pid: int
    parent: int
    command: str
    state: str
    cpu_seconds: float
    rss: int
    threads: tuple[KernelThread, ...]
    handles: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """A session's board: how to open it (a path in /proc), and which processes have it open."""

    path: str
    pids: tuple[int, ...]


def exists(pid: int) -> bool:
    """Is there a process of that number (which may be dead already, and not reaped)?"""
    return (_PROC / str(pid)).exists()


def owner_name(pid: int) -> str | None:
    """Whose process it is, or None if that is the caller's own user (or the caller may look at anybody's)."""
    import pwd

    try:
        uid = (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None
    if uid == os.getuid() or os.getuid() == 0:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _stat(path: Path) -> tuple[str, list[str]] | None:
    """The name, and the fields from the state on."""
    try:
        text = (path / "stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    return head.partition("(")[2], tail.split()


def _thread(path: Path) -> KernelThread | None:
    stat = _stat(path)
    if stat is None:
        return None
    name, fields = stat
    where = ""
    if fields[0] in "SD":
        with contextlib.suppress(OSError):
            where = (path / "wchan").read_text().strip("0\n")
    return KernelThread(
        int(path.name), name, _STATES.get(fields[0], fields[0]), (int(fields[11]) + int(fields[12])) / _TICKS, where
    )


def look(pid: int, threads: bool = True) -> Seen | None:
    """A process, or None if it is gone."""
    path = _PROC / str(pid)
    stat = _stat(path)
    if stat is None:
        return None
    name, fields = stat
    found: list[KernelThread] = []
    handles: tuple[int, ...] = ()
    if threads:
        with contextlib.suppress(OSError):
            handles = handled(pid)
            found = [
                t for entry in sorted((path / "task").iterdir(), key=lambda e: int(e.name)) if (t := _thread(entry))
            ]
    command = name
    with contextlib.suppress(OSError):
        words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        command = " ".join(" ".join(words).split()) or name  # in one line
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Seen(
        pid, int(fields[1]), command, _STATES.get(fields[0], fields[0]), cpu, int(fields[21]) * _PAGE, tuple(found),
        handles,
    )  # fmt: skip


def boards() -> list[Board]:
    """The boards of all sessions that the caller may look at, each with its processes in the order of their numbers."""
    found: dict[tuple[int, int], tuple[str, list[int]]] = {}
    for pid in sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):  # it has none, or has just ended
            path = board_of(pid)
            info = Path(path).stat()  # what tells it from all others
            found.setdefault((info.st_dev, info.st_ino), (path, []))[1].append(pid)
    return [Board(path, tuple(pids)) for path, pids in found.values()]
