"""A small single-threaded process in which workers are born, and which knows when they die.

It is started once by a program's first pool, before it has loaded anything but this package, so that a fork of it is
quick, small and free of other threads' locks.  Each pool has a socket to it.  When a pool's socket closes, its workers
are killed; when the program is gone, however it went, all workers are, and then the nursery leaves too.

The messages (`packets.py`):

    pool -> nursery   {"start": worker, "method": "forkserver" | "spawn"}  + lane, event, store, stdout, stderr
    nursery -> pool   {"started": worker, "pid": pid} + pidfd
                      {"gone": worker, "code": exit code, "words": reason or ""}
    program -> nursery   {"pool": true} + socket
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ... import first_steps
from ..._native import _core
from . import child, packets
from .packets import Message, Socket

# What many workers need beside `worker`.  It is loaded where nothing else is to be done: no worker waits for it.
PRELOAD = ("cloudpickle", "treadle.pool.by_value")


class Worker(NamedTuple):
    id: int
    pid: int
    pidfd: int
    pool: int  # the descriptor of its pool's socket


class Nursery:
    """The loop of the nursery process."""

    def __init__(self, control: Socket, parent: int) -> None:
        self._control = control
        self._pools: dict[int, Socket] = {}
        self._workers: dict[int, Worker] = {}  # by pidfd
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        # A process forked by the program may hold a copy of the control socket and outlive it: watch the program too.
        self._parent = os.pidfd_open(parent)
        self._epoll.register(self._parent, select.EPOLLIN)
        if os.getppid() != parent:
            raise SystemExit(0)

    def serve(self) -> None:
        """Until the program is gone."""
        todo = list(PRELOAD)
        while True:
            events = self._epoll.poll(0 if todo else -1)
            if not events and todo:
                with contextlib.suppress(Exception):
                    __import__(todo.pop(0))
            for fd, _ in events:
                if fd == self._parent:
                    return
                if fd == self._control.fileno():
                    if not self._add_pool():
                        return
                # What came before in this batch may have closed it, and given its number to another one, of which this
                # event says nothing: so neither of these may wait.
                elif fd in self._workers:
                    self._look(self._workers[fd])
                elif fd in self._pools:
                    self._talk(fd)

    def kill_all(self) -> None:
        """The program is gone."""
        for worker in list(self._workers.values()):
            self._kill(worker)

    def _add_pool(self) -> bool:
        message, fds = packets.receive(self._control)
        if message is None:
            return False
        for fd in fds:
            self._pools[fd] = packets.opened(fd)
            self._epoll.register(fd, select.EPOLLIN)
        return True

    def _talk(self, fd: int) -> None:
        pool = self._pools[fd]
        try:
            message, fds = packets.receive(pool, packets.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if message is not None:
            try:
                self._start(fd, message, fds)
            finally:
                for each in fds:
                    os.close(each)
            return
        for worker in [w for w in self._workers.values() if w.pool == fd]:
            self._kill(worker)
        self._epoll.unregister(fd)
        self._pools.pop(fd).close()

    def _start(self, pool: int, message: Message, fds: list[int]) -> None:
        id = message["start"]
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(pool, {"gone": id, "code": None, "words": f"fork: {error.strerror}"})
            return
        if pid == 0:
            _be_born(me, message["method"], fds)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._tell(pool, {"gone": id, "code": None, "words": f"pidfd_open: {error.strerror}"})
            return
        with contextlib.suppress(OSError):  # the child does it too; whoever comes first
            os.setpgid(pid, pid)
        self._workers[pidfd] = Worker(id, pid, pidfd, pool)
        self._epoll.register(pidfd, select.EPOLLIN)
        self._tell(pool, {"started": id, "pid": pid}, [pidfd])

    def _kill(self, worker: Worker) -> None:
        signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
        self._bury(worker)

    def _look(self, worker: Worker) -> None:
        """Bury it if it has ended."""
        if os.waitid(os.P_PIDFD, worker.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """It is gone, or about to be: wait for it, and tell its pool."""
        os.waitid(os.P_PIDFD, worker.pidfd, os.WEXITED | os.WNOWAIT)
        code = child.reap(worker.pid)
        del self._workers[worker.pidfd]
        self._epoll.unregister(worker.pidfd)
        os.close(worker.pidfd)
        self._tell(worker.pool, {"gone": worker.id, "code": code, "words": ""})

    def _tell(self, pool: int, message: Message, fds: Sequence[int] = ()) -> None:
        with contextlib.suppress(OSError):  # the pool is gone: nobody wants to know
            try:
                packets.send(self._pools[pool], message, fds)
            except packets.Full:  # no descriptor may travel now: it has to do without
                packets.send(self._pools[pool], message)


def _be_born(nursery: int, method: str, fds: list[int]) -> NoReturn:
    """In the new process."""
    try:
        child.arrange(nursery)
        lane, event, store, out, err = fds
        child.standard_streams(out, err)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        board = _core.board_fd()
        child.close_others((lane, event, store, board))
        if method == "spawn":
            os.environ["TREADLE_BOARD"] = f"{nursery}:{board}"  # ours is closed when the new program begins
            for fd in (lane, event, store):
                os.set_inheritable(fd, True)
            code = f"{first_steps.as_code()}from treadle.pool import worker; worker.run({lane}, {event}, {store})"
            os.execv(sys.executable, interpreter(code))
        import atexit

        from .. import worker

        atexit._clear()
        worker.run(lane, event, store)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


# With none of these, nor warnings and -X options, a Python was started without flags.
_FLAGS = (
    "debug", "dont_write_bytecode", "no_site", "verbose", "bytes_warning", "quiet", "optimize", "isolated",
    "ignore_environment", "no_user_site", "safe_path", "dev_mode", "inspect", "interactive",
)  # fmt: skip


def interpreter(code: str) -> list[str]:
    """The command line of another Python like this one, that finds treadle where this one did."""
    flags: list[str] = []
    if sys.warnoptions or sys._xoptions or any(getattr(sys.flags, name) for name in _FLAGS):
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

        flags = _args_from_interpreter_flags()
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


def main(control: int, parent: int) -> NoReturn:
    """The nursery's process starts here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Inherited from the program, whatever it uses them for: here children must be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    child.close_inherited(control)
    os.set_inheritable(control, False)
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # the program had closed one of its standard streams
        os.set_inheritable(null, True)
    os.close(null)
    try:
        nursery = Nursery(packets.opened(control), parent)
    except (OSError, SystemExit):
        os._exit(0)
    from .. import worker  # noqa: F401  (loaded once here, shared by every worker)

    _core.thread_name("nursery")
    _core.thread_role("service")
    try:
        nursery.serve()
    finally:
        nursery.kill_all()
        os._exit(0)
