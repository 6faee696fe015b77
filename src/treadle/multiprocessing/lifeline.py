"""Children die with their parent, however it went, and whatever they are doing.

A process that has children keeps the write end of a pipe, and nobody else does.  Each child opens the read end anew
and asks the kernel for a signal, SIGKILL, when something happens at it.  Nothing is ever written, so the one thing that
can happen is that the write end closes: the parent is gone.  The kernel does all of it, so it works while the child
computes in C with the interpreter locked, and while it is stopped; and it takes no thread (of which a later fork would
warn).

A copy of the write end in another process would keep the children alive.  So it is closed on exec, and a hook closes it
in every process that is forked.  Against forks behind Python's back there is a second net where it can be had: the
kernel's parent-death signal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Iterator

from treadle._native import _core

__all__ = ["end_for_children", "hold", "hold_forked", "spared", "starting"]

_lock = threading.RLock()  # guards _pipe; held across forks, so that no pipe is half made in a child
# (read end, write end) of the pipe that the children of this process hang on; None before the first one.
_pipe: tuple[int, int] | None = None
# The read end of the parent's pipe, in a process that our fork has just made; and what this process itself hangs on.
_given: int | None = None
_held: int | None = None
_here = threading.local()  # .starts: this thread is forking one of our children


def end_for_children() -> int:
    """The read end that a child gets.  It belongs to this process for good."""
    global _pipe
    with _lock:
        if _pipe is None:
            _pipe = os.pipe()
        return _pipe[0]


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Around a fork in this thread that makes one of our children."""
    end_for_children()
    _here.starts = True
    try:
        yield
    finally:
        _here.starts = False


def hold(fd: int, kin: bool) -> None:
    """In a new child: from now on this process is killed when the parent, whose pipe's read end is `fd`, is gone.

    `kin`: the kernel's parent is that very process, and its main thread made this one; else the parent-death signal
    would mean somebody else's end.
    """
    global _held
    if kin:
        _core.die_with_parent()
    with contextlib.suppress(OSError):  # no /proc: the signal above is all there is
        # A description of its own: who gets which signal belongs to the description.
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
        _held = own
        with contextlib.suppress(BlockingIOError):
            if os.read(own, 1) == b"":  # it was gone before the kernel was asked
                os.kill(os.getpid(), signal.SIGKILL)
    os.close(fd)


def hold_forked(kin: bool) -> None:
    """`hold`, in a child that was forked within `starting`."""
    global _given
    fd, _given = _given, None
    if fd is not None:
        hold(fd, kin)


def spared() -> set[int]:
    """The descriptors that this process keeps for good."""
    return {fd for fd in (*(_pipe or ()), _held) if fd is not None}


def _before_fork() -> None:
    _lock.acquire()


def _after_fork_in_parent() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _pipe, _given, _held
    if _held is not None:  # the parent's: this one hangs on its own parent, or on nobody
        os.close(_held)
        _held = None
    if _pipe is not None:
        read, write = _pipe
        _pipe = None
        os.close(write)
        if getattr(_here, "starts", False):
            _given = read
        else:
            os.close(read)
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
