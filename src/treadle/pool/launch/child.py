"""The first steps of a new worker process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from ..._native import _core


def arrange(parent: int) -> None:
    """Die with the parent, belong to no terminal's foreground, and be recognisable.

    Its own process group keeps a Ctrl-C for the parent (which then ends the workers itself, with one traceback), and
    lets us kill a worker together with the programs that its task has started.  The kernel sends the death signal, so
    it reaches a worker that is stuck in C code too.
    """
    os.setpgid(0, 0)
    _core.die_with_parent()
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as name:
        name.write(b"treadle-worker")
    if os.getppid() != parent:  # it died before the kernel was told to tell us
        os._exit(0)


def standard_streams(out: int, err: int) -> None:
    """Read nothing from the parent's terminal; write where the parent writes now."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(out, 1)
    os.dup2(err, 2)


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor above the standard ones that is not named."""
    wanted = {0, 1, 2, *keep}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in wanted:
            with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
                os.close(fd)


def close_inherited(keep: int) -> None:
    """In a new program: close what its parent had open for others; what is opened here is never inheritable."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and int(name) != keep and os.get_inheritable(int(name)):
                os.close(int(name))


def exit_code(status: int) -> int:
    """A wait status as in `subprocess.Popen.returncode`."""
    return os.waitstatus_to_exitcode(status)


def reap(pid: int) -> int | None:
    """The worker has ended: end what it started and left behind in its process group, and collect its exit code.

    The group's number can't have been given to anybody else, because its leader is not reaped yet.
    """
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # somebody else in this process waits for every child there is
        return None
    return exit_code(status)
