"""Two pipes a worker, one each way."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence

from ..reactor import WRITE, Reactor
from .base import Frame
from .frames import HEADER, LARGE, FrameReader

CHUNK = 1 << 18  # bytes a read asks for
VECTOR = 256  # buffers in one writev, well below every IOV_MAX


class PipeChannel:
    """The parent's end: both descriptors are non-blocking, so that one stuck worker can't hold up the others."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._lock = threading.Lock()  # guards: _pending, _open.  Rank: inside of nothing, takes the reactor's.
        self._inbox_r, self._inbox_w = os.pipe()
        try:
            self._outbox_r, self._outbox_w = os.pipe()
        except OSError:
            os.close(self._inbox_r)
            os.close(self._inbox_w)
            raise
        os.set_blocking(self._inbox_w, False)
        os.set_blocking(self._outbox_r, False)
        self._reader = FrameReader()
        # What the pipe had no room for.  Invariant: while it is not empty, the reactor waits for room.
        self._pending: deque[memoryview] = deque()
        self._open = True
        self.at_end = False  # the worker, and whoever had its end of the pipe, is gone and all is read

    @property
    def remote_fds(self) -> tuple[int, ...]:
        return self._inbox_r, self._outbox_w

    @property
    def fd(self) -> int:
        """Readable when something has arrived."""
        return self._outbox_r

    def close_remote(self) -> None:
        for name in ("_inbox_r", "_outbox_w"):
            fd = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)

    def send(self, frames: Sequence[Frame]) -> None:
        parts: list[bytes] = []
        small: list[bytes] = []
        for kind, seq, a, b, payload in frames:
            small.append(HEADER.pack(kind, seq, a, b, len(payload)))
            if len(payload) < LARGE:
                small.append(payload)
            else:
                parts.append(b"".join(small))
                parts.append(payload)
                small = []
        if small:
            parts.append(b"".join(small))
        with self._lock:
            if not self._open:
                return
            idle = not self._pending
            self._pending.extend(memoryview(part) for part in parts)
            if idle:
                self._write()
                if self._pending:
                    self._reactor.add(self._inbox_w, self._writable, WRITE)

    def _writable(self, events: int) -> None:
        with self._lock:
            if self._open:
                self._write()
            if not self._pending:
                self._reactor.remove(self._inbox_w)

    def _write(self) -> None:
        pending = self._pending
        while pending:
            try:
                count = os.writev(self._inbox_w, [pending[i] for i in range(min(len(pending), VECTOR))])
            except BlockingIOError:
                return
            except OSError:  # the worker is gone; its end is reported elsewhere
                pending.clear()
                return
            while count:
                head = pending[0]
                if count < len(head):
                    pending[0] = head[count:]
                    break
                count -= len(head)
                pending.popleft()

    def receive(self) -> list[Frame]:
        frames: list[Frame] = []
        reader = self._reader
        while self._open:
            room = reader.room()
            try:
                if room is not None:
                    count = os.readv(self._outbox_r, [room])
                    frames += reader.filled(count)
                else:
                    data = os.read(self._outbox_r, CHUNK)
                    count = len(data)
                    frames += reader.feed(data)
            except BlockingIOError:
                break
            except OSError:
                count = 0
            if count == 0:
                self.at_end = True
                break
            if room is None and count < CHUNK:
                break
        return frames

    def close(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._pending.clear()
            self._reactor.remove(self._inbox_w)
            self._reactor.remove(self._outbox_r)
            os.close(self._inbox_w)
            os.close(self._outbox_r)
        self.close_remote()

    def after_fork(self) -> None:
        """In a forked child, where the reactor is no more: only give the descriptors back."""
        self._lock = threading.Lock()
        self.close()


class PipePort:
    """The worker's end."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._reader = FrameReader()

    def receive(self) -> list[Frame] | None:
        while True:
            room = self._reader.room()
            if room is not None:
                count = os.readv(self._inbox, [room])
                frames = self._reader.filled(count)
            else:
                data = os.read(self._inbox, CHUNK)
                count = len(data)
                frames = self._reader.feed(data)
            if count == 0:
                return None
            if frames:
                return frames

    def send(self, kind: int, seq: int, a: int, b: int, payload: bytes) -> None:
        header = HEADER.pack(kind, seq, a, b, len(payload))
        if len(payload) < LARGE:
            self._write(header + payload)
        else:
            self._write(header)
            self._write(payload)

    def _write(self, data: bytes) -> None:
        count = os.write(self._outbox, data)
        if count < len(data):
            rest = memoryview(data)[count:]
            while rest:
                rest = rest[os.write(self._outbox, rest) :]
