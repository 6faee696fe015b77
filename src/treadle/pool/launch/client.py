"""The program's side of the nursery."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import sys
import threading

from ... import first_steps
from ..reactor import Reactor
from . import packets
from .base import Gone, Started
from .nursery import interpreter

SIGKILLED = -9


class _Program:
    """The nursery process of this program: started when first needed, again if somebody killed it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards: _pid, _control
        self._pid: int | None = None  # Invariant: of a child that nobody has waited for
        self._control: packets.Socket | None = None

    @property
    def pid(self) -> int | None:
        """Its pid, or None while there is none."""
        with self._lock:
            return self._pid if self._lives() else None

    def begin(self) -> None:
        """There will be a pool soon: start it, if there is none.  What goes wrong, `connect` will say.

        In a thread of its own, where no interrupt can come between taking the lock and letting go of it, or between
        starting a process and knowing it."""
        with contextlib.suppress(RuntimeError):  # no thread can be started, or none any more: the pool will say so
            _thread.start_new_thread(self._begin, ())

    def _begin(self) -> None:
        with contextlib.suppress(Exception), self._lock:
            if not self._lives():
                self._start()

    def connect(self) -> packets.Socket:
        """A new pool's socket to the nursery."""
        with self._lock:
            for attempt in (1, 2):
                if not self._lives():
                    self._start()
                assert self._control is not None
                ours, theirs = packets.pair()
                try:
                    packets.send(self._control, {"pool": True}, [theirs.fileno()])
                    return ours
                except OSError:
                    ours.close()
                    self._drop()
                    if attempt == 2:
                        raise
                finally:
                    theirs.close()
        raise AssertionError("not reached")

    def _lives(self) -> bool:
        if self._pid is None:
            return False
        try:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this program waits for every child there is
            ended = self._pid
        if ended:
            self._pid = None
        return not ended

    def _start(self) -> None:
        self._drop()
        if not sys.executable:
            raise OSError("this Python does not know its own executable; use start_method='fork'")
        ours, theirs = packets.pair()
        try:
            target = 3 if theirs.fileno() != 3 else 4  # there it is not closed on exec
            # No name of ours in its main module: in workers that is where the program's functions have their globals.
            code = _leave_folder() + first_steps.as_code()
            code += "__import__('treadle.pool.launch.nursery', None, None, ['main'])"
            code += f".main({target}, {os.getpid()})"
            self._pid = os.posix_spawn(
                sys.executable,
                interpreter(code),
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), target),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                ],
                setpgroup=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = None

    def stop(self) -> None:
        """End it, with every worker that is still there.  The next pool starts a new one."""
        with self._lock:
            self._drop()

    def after_fork(self) -> None:
        """In a forked child: it is the parent's, not ours."""
        self._lock = threading.Lock()
        self._pid = None
        if self._control is not None:
            self._control.close()
            self._control = None


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
        self._socket: packets.Socket | None = None
        # Launched, and not reported as gone.
        self._alive: set[int] = set()
        self._closed = False

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
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
                    packets.send(self._socket, {"start": worker, "method": self._method}, [*fds, *streams])
        finally:
            for fd in streams:
                os.close(fd)

    def _readable(self, events: int) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            message, fds = packets.receive(sock, packets.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if message is None:
            self._lost()
            return
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


def _leave_folder() -> str:
    """Python code for a new Python's start: a folder that was removed, it can't import anything in."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib takes long to import
    except OSError:
        return "__import__('os').chdir('/'); "
    return ""


def _usable(fd: int) -> int:
    """A copy of a standard stream, or of /dev/null where the program has closed it."""
    with contextlib.suppress(OSError):
        return os.dup(fd)
    return os.open(os.devnull, os.O_WRONLY)
