"""What workers have to say beside results: log records, warnings, errors that nobody catches.

One pipe a pool.  A message is cut into chunks that the kernel writes whole, each with its sender and its number, so
that any thread, signal handler or forked child of a worker may report at any time without a lock, and a worker that is
killed in the middle of a message spoils nothing but that.  What a worker has written comes out of the pipe before
anything that it does later is seen: the engine empties it before it looks at results.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable

from .watchdog import watchdog

LOG, WARNING, THREAD_ERROR, UNRAISABLE, UNCAUGHT = 1, 2, 3, 4, 5

_HEADER = struct.Struct("<IIIIQ")  # length of the chunk without this, sender's pid, kind, number, length of the message
CHUNK = select.PIPE_BUF
_BODY = CHUNK - _HEADER.size
_READ = 1 << 16
_UNFINISHED_KEPT = 256  # messages of which only the beginning has come; their senders are most likely gone

Handler = Callable[[bytes], None]


class Sender:
    """A worker's end.  Any thread, any signal handler, any forked child may use it, without a lock."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._numbers = itertools.count(1)

    @classmethod
    def open(cls, place: tuple[int, int]) -> Sender | None:
        """The pipe of the program with that pid, under that descriptor; None if it can't be had."""
        pid, fd = place
        try:
            return cls(os.open(f"/proc/{pid}/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def send(self, kind: int, message: bytes) -> bool:
        """Blocks while the pipe is full.  False: the program is gone, or a task has closed the descriptor."""
        number = next(self._numbers) & 0xFFFFFFFF
        at = 0
        while True:
            part = message[at : at + _BODY]
            try:
                os.write(self._fd, _HEADER.pack(len(part), os.getpid(), kind, number, len(message)) + part)
            except OSError:
                return False
            at += len(part)
            if at >= len(message):
                return True


class Receiver:
    """The program's end.  Made with a pool's first worker; read by the reactor's thread."""

    def __init__(self, handlers: dict[int, Handler]) -> None:
        self._handlers = handlers
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # A worker opens the pipe anew, and gets a description of its own, which blocks.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 1 << 18)
        self._rest = b""
        self._unfinished: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self.reading = (
            threading.Lock()
        )  # guards: _rest, _unfinished, fd.  Handlers run under it: they keep their order.
        self._reader: int | None = None  # the thread that has it

    @property
    def place(self) -> tuple[int, int]:
        """Where a worker finds it; see `Sender.open`."""
        return os.getpid(), self._write_fd

    def drain(self) -> None:
        """Handle all that has come."""
        if self._reader == threading.get_ident():
            return  # a handler that was called in `drain`
        with self.reading:
            self._reader = threading.get_ident()
            try:
                while self.fd >= 0:
                    try:
                        data = os.read(self.fd, _READ)
                    except BlockingIOError:
                        return
                    self._take(data)
                    if len(data) < _READ:
                        return
            finally:
                self._reader = None

    def _take(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= _HEADER.size:
            length, pid, kind, number, total = _HEADER.unpack_from(data, at)
            end = at + _HEADER.size + length
            if end > len(data):
                break
            body = data[at + _HEADER.size : end]
            at = end
            if length == total:
                self._handle(kind, body)
                continue
            parts = self._unfinished.setdefault((pid, number), [])
            parts.append(body)
            if sum(map(len, parts)) >= total:
                del self._unfinished[pid, number]
                self._handle(kind, b"".join(parts))
            elif len(self._unfinished) > _UNFINISHED_KEPT:
                self._unfinished.popitem(last=False)
        self._rest = data[at:]

    def _handle(self, kind: int, message: bytes) -> None:
        handler = self._handlers.get(kind)
        if handler is not None:
            try:
                watchdog.call(handler, message)
            except BaseException:
                sys.excepthook(*sys.exc_info())

    def close(self) -> None:
        """Give the descriptors back, once nobody reads any more: the numbers are others' then.  Idempotent."""
        if self._reader == threading.get_ident():  # in a handler: `drain` looks before it reads on
            self._close()
        else:
            with self.reading:
                self._close()

    def after_fork(self) -> None:
        """In a forked child: give the descriptors back, whatever another thread of the parent's was doing."""
        self.reading = threading.Lock()
        self._close()

    def _close(self) -> None:
        fds, self.fd, self._write_fd = (self.fd, self._write_fd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def describe_sender(pid: int) -> str:
    """How a worker is called in what it reports."""
    return f"treadle-worker-{pid}"
