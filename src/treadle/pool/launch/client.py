"""The program's side of the nursery."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from ... import first_steps
from ..reactor import Reactor
from .base import Gone, Started
from .nursery import FDS, MESSAGE, interpreter

SIGKILLED = -9


class _Program:
    """The nursery process of this program: started when first needed, again if somebody killed it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Its pid, or None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def connect(self) -> socket.socket:
        """A new pool's socket to the nursery."""
        with self._lock:
            for attempt in (1, 2):
                if self._process is None or self._process.poll() is not None:
                    self._start()
                assert self._control is not None
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                try:
                    socket.send_fds(self._control, [b'{"pool": true}'], [theirs.fileno()])
                    return ours
                except OSError:
                    ours.close()
                    self._drop()
                    if attempt == 2:
                        raise
                finally:
                    theirs.close()
        raise AssertionError("not reached")

    def _start(self) -> None:
        self._drop()
        if not sys.executable:
            raise OSError("this Python does not know its own executable; use start_method='fork'")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # No name of ours in its main module: in workers that is where the program's functions have their globals.
            code = first_steps.as_code() + "__import__('treadle.pool.launch.nursery', None, None, ['main'])"
            code += f".main({theirs.fileno()}, {os.getpid()})"
            try:
                self._process = subprocess.Popen(
                    interpreter(code),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    cwd=_usable_folder(),
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        self._control = ours

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it, with every worker that is still there.  The next pool starts a new one."""
        with self._lock:
            self._drop()

    def after_fork(self) -> None:
        """In a forked child: it is the parent's, not ours."""
        self._lock = threading.Lock()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.returncode = 0  # it is not our child: nothing to wait for, nothing to warn of
            self._process = None


program = _Program()
atexit.register(program.stop)
os.register_at_fork(after_in_child=program.after_fork)


class NurseryLauncher:
    """Starts the workers of one pool in the nursery."""

    def __init__(self, reactor: Reactor, method: str, started: Started, gone: Gone) -> None:
        self._reactor = reactor
        self._method = method
        self._started = started
        self._gone = gone
        self._lock = threading.Lock()  # guards: _socket, _alive
        self._socket: socket.socket | None = None
        # Launched, and not reported as gone.
        self._alive: set[int] = set()
        self._closed = False

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
        message = json.dumps({"start": worker, "method": self._method}).encode()
        streams = (_usable(1), _usable(2))
        try:
            with self._lock:
                if self._closed:
                    raise OSError("the pool is closed")
                if self._socket is None:
                    self._socket = program.connect()
                    self._reactor.add(self._socket.fileno(), self._readable)
                self._alive.add(worker)
                # If the nursery has just been killed, the reactor sees its end, and reports this worker with it.
                with contextlib.suppress(OSError):
                    socket.send_fds(self._socket, [message], [*fds, *streams])
        finally:
            for fd in streams:
                os.close(fd)

    def _readable(self, events: int) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            data, fds, _, _ = socket.recv_fds(sock, MESSAGE, FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._lost()
            return
        message = json.loads(data)
        if "started" in message:
            self._started(message["started"], message["pid"], fds[0] if fds else -1)
            return
        self._alive.discard(message["gone"])
        self._gone(message["gone"], message["code"], message["words"])

    def _lost(self) -> None:
        """The nursery is gone, and with it (the kernel sees to that) each of its workers."""
        with self._lock:
            if self._socket is not None:
                self._reactor.remove(self._socket.fileno())
                self._socket.close()
                self._socket = None
            lost, self._alive = self._alive, set()
        for worker in sorted(lost):
            self._gone(worker, SIGKILLED, "the process that starts workers was killed")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._socket is not None:
                self._reactor.remove(self._socket.fileno())
                self._socket.close()
                self._socket = None

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._closed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _usable_folder() -> str | None:
    """Where a new Python may start: here (None), unless this folder was removed, which it does not survive."""
    try:
        Path.cwd()
    except OSError:
        return "/"
    return None


def _usable(fd: int) -> int:
    """A copy of a standard stream, or of /dev/null where the program has closed it."""
    with contextlib.suppress(OSError):
        return os.dup(fd)
    return os.open(os.devnull, os.O_WRONLY)
