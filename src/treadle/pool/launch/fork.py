"""Workers forked from the program itself: they have all it has, and the risk of another thread's lock held for ever.

Only for those who ask for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import warnings

from ..reactor import Reactor
from . import child
from .base import Gone, Started


class ForkLauncher:
    """Forks in the reactor's thread: the kernel ties a worker's life to the thread that forked it."""

    def __init__(self, reactor: Reactor, started: Started, gone: Gone) -> None:
        self._reactor = reactor
        self._started = started
        self._gone = gone
        # By pidfd: (worker, pid).  Only single operations, which are atomic.
        self._workers: dict[int, tuple[int, int]] = {}
        self._closed = False

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
        copies = tuple(os.dup(fd) for fd in fds)
        self._reactor.start()
        self._reactor.call_soon(lambda: self._fork(worker, copies))

    def _fork(self, worker: int, fds: tuple[int, ...]) -> None:
        parent = os.getpid()
        trouble, pid = "the pool is closed", -1
        if not self._closed:
            _accept_the_warning()
            # A Ctrl-C must find the child either not there, or in its own process group.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
            try:
                pid = os.fork()
            except OSError as error:
                trouble = f"fork: {error.strerror}"
            if pid == 0:
                _be_born(parent, fds)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            self._gone(worker, None, trouble)
            return
        pidfd = os.pidfd_open(pid)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._workers[pidfd] = (worker, pid)
        self._reactor.add(pidfd, lambda events: self._bury(pidfd))
        self._started(worker, pid, os.dup(pidfd))

    def _bury(self, pidfd: int) -> None:
        known = self._workers.pop(pidfd, None)
        if known is None:  # `close`, in another thread, was faster
            return
        worker, pid = known
        self._reactor.remove(pidfd)
        code = child.reap(pid)
        os.close(pidfd)
        self._gone(worker, code, "")

    def close(self) -> None:
        self._closed = True
        while self._workers:
            try:
                pidfd, (_, pid) = self._workers.popitem()  # who has taken it out is the one who reaps and closes
            except KeyError:
                return
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._reactor.remove(pidfd)
            child.reap(pid)
            os.close(pidfd)

    def after_fork(self) -> None:
        self._closed = True
        for pidfd in self._workers:
            with contextlib.suppress(OSError):
                os.close(pidfd)
        self._workers.clear()


_FILTER = r"This process .* is multi-threaded, use of fork\(\)"


def _accept_the_warning() -> None:
    """Python warns of a fork with threads (3.12 and later).  Who asks for this start method has accepted it.

    As an error it would be raised after the fork, and the child's pid would be lost.
    """
    if not any(entry[1] is not None and entry[1].pattern == _FILTER for entry in warnings.filters):
        warnings.filterwarnings("ignore", _FILTER, DeprecationWarning)


def _be_born(parent: int, fds: tuple[int, ...]) -> None:
    try:
        child.arrange(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        atexit._clear()
        lane, event, store = fds
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        from .. import worker

        worker.run(lane, event, store)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)
