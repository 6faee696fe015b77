"""The program's side of the nursery."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import errno
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence

from ... import first_steps
from ..reactor import Reactor
from . import packets
from .base import Gone, Started
from .nursery import interpreter

SIGKILLED = -9
UNDER_WAY = 192  # starts that a pool has asked for and heard nothing of, at most
RETRY_SECONDS = 0.005  # between two attempts to ask, where there is no room
ROOM_SECONDS = 20.0  # how long to wait for room, while none of our own starts occupies any


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
        """A new pool's socket to the nursery.  Raises `packets.Full`, or another OSError if it can't be had."""
        with self._lock:
            for attempt in (1, 2):
                if not self._lives():
                    self._start()
                assert self._control is not None
                ours, theirs = packets.pair()
                try:
                    packets.send(self._control, {"pool": True}, [theirs.fileno()])
                    return ours
                except packets.Full:  # it is there, and has other pools' workers
                    ours.close()
                    raise
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


class _Waiting:
    """A worker that is to be started when there is room for it."""

    def __init__(self, worker: int, fds: Sequence[int]) -> None:
        self.worker = worker
        self.since = time.monotonic()
        self.fds: list[int] = []
        try:
            for fd in fds:
                self.fds.append(os.dup(fd))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give the copies back.  Idempotent."""
        while self.fds:
            os.close(self.fds.pop())


class NurseryLauncher:
    """Starts the workers of one pool in the nursery.

    No more than `UNDER_WAY` are asked for at a time, so that neither of the two ever waits for the other to read; and
    where the kernel takes no more, it is asked again.
    """

    def __init__(self, reactor: Reactor, method: str, started: Started, gone: Gone) -> None:
        self._reactor = reactor
        self._method = method
        self._started = started
        self._gone = gone
        # Guards: _socket, _alive, _asked, _waiting, _retries.  Rank: see the pool's README
        self._lock = threading.Lock()
        self._socket: packets.Socket | None = None
        # Asked for, and not reported as gone.
        self._alive: set[int] = set()
        self._asked: set[int] = set()  # of those, the ones of which nothing was heard so far
        self._waiting: deque[_Waiting] = deque()  # to be asked for, in order
        self._retries = False  # is a timer set for them?
        self._closed = False

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
        with self._lock:
            if self._closed:
                raise OSError("the pool is closed")
            if self._waiting or not self._ask(worker, fds):
                self._waiting.append(_Waiting(worker, fds))
                self._retry_later()

    def _ask(self, worker: int, fds: Sequence[int]) -> bool:
        """Under the lock: have it started; False if there is no room for that now.  OSError: there will be none."""
        if len(self._asked) >= UNDER_WAY:
            return False
        streams: list[int] = []
        try:
            streams.append(_usable(1))
            streams.append(_usable(2))
            if self._socket is None:
                self._socket = program.connect()
                self._reactor.add(self._socket.fileno(), self._readable)
            message = {"start": worker, "method": self._method}
            packets.send(self._socket, message, [*fds, *streams], packets.MSG_DONTWAIT)
        except packets.Full:
            return False
        except OSError as error:
            # If the nursery has just been killed, the reactor sees its end, and reports this worker with it.
            if self._socket is None or error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise
        finally:
            for fd in streams:
                os.close(fd)
        self._alive.add(worker)
        self._asked.add(worker)
        return True

    def _retry_later(self) -> None:
        """Under the lock.  Not only when the nursery has read something: the room may be others', of the same user."""
        if not self._retries:
            self._retries = True
            self._reactor.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        with self._lock:
            self._retries = False
        self._go_on()

    def _go_on(self) -> None:
        """In the reactor's thread: ask for those that wait, as many as there is room for."""
        failed: list[tuple[int, str]] = []
        with self._lock:
            while self._waiting:
                first = self._waiting[0]
                try:
                    if not self._ask(first.worker, first.fds):
                        # (As long as there are some under way, those are what it waits for.)
                        if self._asked or time.monotonic() - first.since < ROOM_SECONDS:
                            self._retry_later()
                            break
                        failed.append((first.worker, "the kernel lets no more descriptors travel"))
                except OSError as error:
                    failed.append((first.worker, str(error)))
                self._waiting.popleft().close()
        for worker, words in failed:
            self._gone(worker, None, words)

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
        with self._lock:
            self._asked.discard(message["started"] if "started" in message else message["gone"])
            if "gone" in message:
                self._alive.discard(message["gone"])
            waiting = bool(self._waiting)
        if waiting:
            self._go_on()
        if "started" in message:
            self._started(message["started"], message["pid"], fds[0] if fds else -1)
        else:
            self._gone(message["gone"], message["code"], message["words"])

    def _lost(self) -> None:
        """The nursery is gone, and with it (the kernel sees to that) each of its workers."""
        with self._lock:
            if self._socket is not None:
                self._reactor.remove(self._socket.fileno())
                self._socket.close()
                self._socket = None
            lost, self._alive, self._asked = self._alive, set(), set()
        for worker in sorted(lost):
            self._gone(worker, SIGKILLED, "the process that starts workers was killed")
        self._go_on()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._forget_waiting()
            if self._socket is not None:
                self._reactor.remove(self._socket.fileno())
                self._socket.close()
                self._socket = None

    def _forget_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._closed = True
        self._forget_waiting()
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
