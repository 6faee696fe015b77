"""Memory that several processes open by a handle: an anonymous file that the kernel frees with its last user."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
from pathlib import Path
from typing import NamedTuple

from treadle.sync.shared import Lock

__all__ = ["Handle", "create", "find", "handle", "reserve", "room_for"]

_PREFIX = "treadle-"
_SEAL_SHRINK = 0x0002
_ADD_SEALS = 1033  # F_ADD_SEALS, which Python's fcntl has since 3.9 on most builds


class Handle(NamedTuple):
    """Where to look first, how to know it, and the lock that guards it."""

    pid: int
    fd: int
    name: str
    lock: Lock


def create(kind: str) -> tuple[int, str]:
    """A new, empty piece of memory: its descriptor, and the name under which others find it."""
    name = f"{_PREFIX}{kind}-{os.urandom(8).hex()}"
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), name


def reserve(fd: int, size: int) -> None:
    """Give it at least `size` bytes of real memory, for good: a later access can't fail.  MemoryError if there is none.

    It never shrinks again: nobody may take it from under the feet of another process.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        raise MemoryError(f"no memory for {size} shared bytes: {error.strerror}") from error
    fcntl.fcntl(fd, getattr(fcntl, "F_ADD_SEALS", _ADD_SEALS), getattr(fcntl, "F_SEAL_SHRINK", _SEAL_SHRINK))


def room_for(size: int) -> None:
    """MemoryError if this process can't map that many bytes now, because its addresses are limited (`ulimit -v`)."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=0).close()
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no addresses for {size} shared bytes: {error}") from error


def handle(fd: int, name: str, lock: Lock) -> Handle:
    """What to send to another process."""
    return Handle(os.getpid(), fd, name, lock)


def find(where: Handle) -> int:
    """A descriptor of our own for that memory.  FileNotFoundError if no living process of this user has it."""
    with contextlib.suppress(OSError):
        return _open(where.pid, str(where.fd), where.name)
    for entry in os.scandir("/proc"):
        if re.fullmatch(r"\d+", entry.name):
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{entry.name}/fd"):
                    with contextlib.suppress(OSError):
                        return _open(int(entry.name), fd, where.name)
    raise FileNotFoundError(f"the shared memory {where.name} is gone: no living process has it")


def _open(pid: int, fd: str, name: str) -> int:
    path = f"/proc/{pid}/fd/{fd}"
    wanted = f"/memfd:{name} (deleted)"
    if str(Path(path).readlink()) != wanted:
        raise FileNotFoundError(path)
    mine = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    if os.readlink(f"/proc/self/fd/{mine}") != wanted:  # noqa: PTH115 - the descriptor was given to another file
        os.close(mine)
        raise FileNotFoundError(path)
    return mine
