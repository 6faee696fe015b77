"""What a launcher has to offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

START_METHODS = ("forkserver", "spawn", "fork")

# (worker, pid, pidfd): it runs.  The receiver owns the pidfd, which is -1 where no descriptor was left.
Started = Callable[[int, int, int], None]
# (worker, exit code or minus the signal's number or None, words): it is gone, or never came to life.
Gone = Callable[[int, int | None, str], None]


class Launcher(Protocol):
    """Starts worker processes; each ends with exactly one call of `gone`, made in the reactor's thread."""

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
        """Start a process that has these descriptors; they may be closed when this returns.  Does not wait for it.

        Raises OSError where it can't even be tried.
        """

    def close(self) -> None:
        """Kill what is left, with all its descendants that stayed in its process group.  Idempotent."""

    def after_fork(self) -> None:
        """In a forked child: give the descriptors back, and kill nobody."""
