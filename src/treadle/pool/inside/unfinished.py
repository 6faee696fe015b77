"""Lines that a worker has begun to print: its program finds them if the worker is killed before their end.

Each worker has a piece of memory that its program has made.  A part of a line stands there for as long as it is kept.
Its length is written with it or after it, so a kill in between leaves what was there before.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import time

STREAMS = (1, 2)  # the descriptors
REGION = 1 << 20  # bytes for the part of one of them; what is longer is cut
_HEADER = 8  # its length
_AT_ONCE = 2048  # bytes: so much the kernel writes whole, whatever kills the writer
_ROOM_SECONDS = 0.5  # to wait for somebody to read, in all

logger = logging.getLogger("treadle")


class Page:
    """The program's end."""

    def __init__(self) -> None:
        try:
            self._fd = os.memfd_create("treadle-lines", os.MFD_CLOEXEC)
        except OSError:  # no descriptor is left: then there is none
            self._fd = -1

    @property
    def place(self) -> tuple[int, int]:
        """Where its worker finds it."""
        return os.getpid(), self._fd

    def read(self) -> list[tuple[int, bytes]]:
        """The parts that were kept: (descriptor, text)."""
        found = []
        if self._fd >= 0:
            for stream in STREAMS:
                at = REGION * (stream - 1)
                length = int.from_bytes(os.pread(self._fd, _HEADER, at), "little")
                if length:
                    found.append((stream, os.pread(self._fd, length, at + _HEADER)))
        return found

    def close(self) -> None:
        """Give it back.  Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Keeper:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = dict.fromkeys(STREAMS, b"")

    @classmethod
    def open(cls, place: tuple[int, int]) -> Keeper | None:
        """The page at that place; None if it can't be had."""
        pid, fd = place
        try:
            return cls(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return None

    def keep(self, stream: int, part: bytes) -> None:
        """This is what was begun there; b"": nothing.  One thread at a time for each stream."""
        part = part[: REGION - _HEADER]
        before = self._kept[stream]
        if part == before:
            return
        self._kept[stream] = part
        at = REGION * (stream - 1)
        header = len(part).to_bytes(_HEADER, "little")
        with contextlib.suppress(OSError):  # a task has closed it, or no memory is left
            if len(part) <= _AT_ONCE:
                os.pwrite(self._fd, header + part, at)
                return
            new = len(before) if part.startswith(before) else 0
            os.pwrite(self._fd, part[new:], at + _HEADER + new)
            os.pwrite(self._fd, header, at)


def tell(pid: int | None, parts: list[tuple[int, bytes]]) -> None:
    """In the program: write what a worker that was killed has left, each as a line.  Waits for nobody for long."""
    for stream, part in parts:
        try:
            written = _write(stream, part + b"\n")
        except OSError:  # it is closed
            written = False
        if not written:
            logger.warning("worker %s has left a part of a line, which can't be written now: %r", pid, part[-200:])


def _write(fd: int, data: bytes) -> bool:
    until = time.monotonic() + _ROOM_SECONDS
    locked = False
    while not locked and time.monotonic() < until:  # another worker may be in the middle of a long line
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:  # it is of a kind that can't be locked
            break
    try:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while data:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                return False
            data = data[os.write(fd, data[: select.PIPE_BUF]) :]
        return True
    finally:
        if locked:
            with contextlib.suppress(OSError):
                fcntl.lockf(fd, fcntl.LOCK_UN)
