"""How long a thread was not waiting: it computed, or it could have, if a CPU had been free."""

from __future__ import annotations

import time


def own() -> int:
    """Nanoseconds that this process has computed, and its main thread has queued for a CPU, since it began.

    On a busy machine a computing call's wall time is mostly queueing.  That must not be taken for waiting.
    """
    return time.process_time_ns() + _queued("self")


def other(pid: int) -> int:
    """The same of another process of this user.  Raises OSError if it is gone."""
    # The CPU clock of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime_ns(~pid << 3 | 2) + _queued(str(pid))


def _queued(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):  # a kernel without these statistics
        return 0
