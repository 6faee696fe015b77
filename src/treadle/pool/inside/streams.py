"""What workers print comes out line by line: no line of one in the middle of another's.

`sys.stdout` and `sys.stderr` of a worker keep what is printed until its line is complete, and write whole lines with
one call.  A part of a line, flushed or not, waits for its rest; at the end of the task it is written as it is.  (With a
carriage return in it, it is something drawn over again and again, a progress bar: then a flush writes it.)  If the
worker is killed before that, its program writes the part (`unfinished.py`).
Redirecting, replacing and capturing work as ever; what C code prints is not seen here.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import stat
import sys
import threading
from typing import Any

from .unfinished import Keeper

_kept: list[Any] = []  # the streams that were here before: they must not be collected, which would flush them
_streams: list[Lines] = []


def remind() -> None:
    """Replaced by what has `task_ended` called after the task that runs."""


class Lines(io.BufferedIOBase):
    """The buffer below a text stream.  Thread-safe: each thread has its own line, and writes whole ones."""

    def __init__(self, fd: int, name: str, keeper: Keeper | None = None) -> None:
        self._fd = fd
        self._keeper = keeper  # where parts stand until they are written
        self.name = name
        self.mode = "wb"
        self.raw = io.FileIO(fd, "wb", closefd=False)
        self._holds = True  # does it keep parts of lines until the task's end?
        self._lock = threading.RLock()  # one writer at a time; a signal handler may write in the middle of another's
        self._parts: dict[int, bytes] = {}  # by thread: the beginning of its line; only that thread changes its own
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            mode = 0
        # Whoever writes to these at once may be cut off in the middle by another; to a file or a terminal, not.
        self._contended = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def write(self, data: Any) -> int:
        data = bytes(data)
        me = threading.get_ident()
        at = data.rfind(b"\n") + 1
        part = self._parts.get(me, b"")
        if not at:
            if data:
                self._parts[me] = part + data
                self._keep()
                remind()
            return len(data)
        # First what is left, then what goes out: a signal handler that prints in between has a line of its own.
        if at < len(data):
            self._parts[me] = data[at:]
            remind()
        elif part:
            del self._parts[me]
        self._put(part + data[:at])
        if part or at < len(data):
            self._keep()
        return len(data)

    def _keep(self) -> None:
        if self._keeper is not None:
            with self._lock:
                parts = list(self._parts.values())
                self._keeper.keep(self._fd, parts[0] if len(parts) == 1 else b"\n".join(parts))

    def flush(self) -> None:
        """Complete lines are out already; see the module for the others."""
        me = threading.get_ident()
        part = self._parts.get(me, b"")
        if part and (b"\r" in part or not self._holds):
            self._put(self._parts.pop(me))
            self._keep()

    def release(self) -> None:
        """Write all that is left, as it is."""
        while self._parts:
            with contextlib.suppress(KeyError):  # that thread has just completed its line
                self._put(self._parts.pop(next(iter(self._parts), 0)))
        self._keep()

    @property
    def pending(self) -> bool:
        """Is there a part of a line?"""
        return bool(self._parts)

    def forget(self) -> None:
        """In a forked child: what was kept is the parent's to write, and no task's end is seen here."""
        self._parts.clear()
        self._holds = False
        self._keeper = None
        self._lock = threading.RLock()

    def _put(self, data: bytes) -> None:
        with self._lock:
            if self._contended:
                self._put_alone(data)
            else:
                self._write(data)

    def _put_alone(self, data: bytes) -> None:
        # The kernel gives such a lock back when its process ends; that of a file would be shared with all workers.
        locked = False
        with contextlib.suppress(OSError):
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            locked = True
        try:
            self._write(data)
        finally:
            if locked:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # the program has made its end non-blocking, which is ours too
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def close(self) -> None:
        """As any buffer: writes what is left.  The descriptor stays open."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self.release()
        super().close()


def arrive(place: tuple[int, int]) -> None:
    """In the worker; where its unfinished lines stand."""
    keeper = Keeper.open(place)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        lines = Lines(fd, f"<{name}>", keeper)
        stream = io.TextIOWrapper(
            lines,
            encoding=getattr(old, "encoding", None) or "utf-8",
            errors=getattr(old, "errors", None) or ("backslashreplace" if fd == 2 else "strict"),
            newline="\n",
            write_through=True,
        )
        stream.mode = "w"  # type: ignore[misc]
        _kept.extend((old, getattr(sys, f"__{name}__")))
        _streams.append(lines)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def task_ended() -> None:
    """Between two tasks: nothing of one may wait for the next one."""
    for lines in _streams:
        if lines.pending:
            with contextlib.suppress(OSError):  # nobody reads it
                lines.release()


def after_fork() -> None:
    """In a child that a task has forked."""
    for lines in _streams:
        lines.forget()
