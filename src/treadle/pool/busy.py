"""What a thread did when it was not waiting: it computed, or it queued for a CPU that was busy."""

from __future__ import annotations

import time


def own() -> tuple[int, int]:
    """Nanoseconds that this process has computed, and that its main thread has queued for a CPU, since they began.

    On a busy machine most of a computing call's wall time is queueing.  That is neither waiting nor computing.
    """
    return time.process_time_ns(), _queued("self")


def other(pid: int) -> tuple[int, int]:
    """The same of another process of this user.  Raises OSError if it is gone."""
    # The CPU clock of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime_ns(~pid << 3 | 2), _queued(str(pid))


def _queued(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):  # a kernel without these statistics
        return 0
