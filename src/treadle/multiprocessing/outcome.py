"""How a child's work ended: its value or its exception, in memory that the parent made.

A pipe would have to be read while the child writes, or block its exit.  A memfd takes any amount at once, and goes with
its last descriptor.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from multiprocessing import reduction
from typing import Any

__all__ = ["RAISED", "RETURNED", "Outcome"]

RETURNED, RAISED = 1, 2
HEADER = struct.Struct("<QQ")  # kind, length of what follows
KEPT_OPEN = 1 << 20  # bytes: what is shorter is read as soon as the process has ended, which frees the descriptor


class Outcome:
    """Made by the parent, written once by the child, read by the parent when the child has ended."""

    # Invariant: the header is written after all that it speaks of; a child that is killed in between leaves zeros.
    # Invariant: _fd is the only reference to the descriptor; None once it is closed.

    def __init__(self, fd: int | None = None) -> None:
        self._fd: int | None = os.memfd_create("treadle-outcome", os.MFD_CLOEXEC) if fd is None else fd
        self._read: tuple[int, bytes] | None = None
        self._reading = threading.Lock()  # one thread at a time reads and closes

    def __reduce__(self) -> tuple[Any, ...]:
        assert self._fd is not None
        return _inherit, (reduction.DupFd(self._fd),)

    def write(self, kind: int, data: bytes) -> None:
        """In the child.  MemoryError or OSError if there is no memory for it; then nothing was written."""
        assert self._fd is not None
        try:
            _write_all(self._fd, data, HEADER.size)
        except OSError:
            os.ftruncate(self._fd, 0)
            raise
        _write_all(self._fd, HEADER.pack(kind, len(data)), 0)

    def settle(self) -> None:
        """The child has ended: give the descriptor back, unless that means to copy a lot that nobody asked for."""
        with self._reading:
            if self._fd is not None and os.fstat(self._fd).st_size <= KEPT_OPEN:
                self._read_now()

    def read(self) -> tuple[int, bytes] | None:
        """What the child wrote: kind and data; None if it ended before that.  Only when it has ended."""
        with self._reading:
            self._read_now()
            return self._read

    def _read_now(self) -> None:
        fd = self._fd
        if self._read is None and fd is not None:
            header = os.pread(fd, HEADER.size, 0)
            if len(header) == HEADER.size:
                kind, length = HEADER.unpack(header)
                if kind:
                    self._read = kind, _read_all(fd, length, HEADER.size)
            self._close()

    def close(self) -> None:
        """Give the descriptor back.  Idempotent."""
        with self._reading:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._close()  # nobody reads: that would hold it


def _inherit(fd: Any) -> Outcome:
    number = fd.detach()
    os.set_inheritable(number, False)
    return Outcome(number)


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n


def _read_all(fd: int, length: int, at: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(fd, length, at)
        if not part:
            break
        parts.append(part)
        at, length = at + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
