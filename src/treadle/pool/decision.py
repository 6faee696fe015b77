"""How ``engine="auto"`` chooses: a pure measure of the first calls.

IO wants threads, CPU wants processes: a call that waits leaves its CPU idle, so it does no harm that threads share one
interpreter; a call that computes needs an interpreter of its own.  What tells them apart is the share of a call's wall
time during which it used the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

PROBES = 8  # calls that are measured before the choice
WARM = 2  # with so many calls from workers that are warm, those are the ones that count
EARLY_SECONDS = 0.1  # a call that has waited this long need not be waited for
WAITING_SHARE = 0.5  # above it: threads


class Decision(NamedTuple):
    """Which engine was chosen (``"threads"`` or ``"processes"``, say), and why, in words."""

    engine: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine}: {self.reason}"


class _Sum:
    """Calls, and their seconds: wall time without queueing for a CPU, and CPU time."""

    def __init__(self) -> None:
        self.calls = 0
        self.wall = 0.0
        self.cpu = 0.0

    def add(self, wall: float, cpu: float) -> None:
        self.calls += 1
        self.wall += wall
        self.cpu += min(cpu, wall)

    @property
    def waiting(self) -> float:
        """The share of the time that was neither computing nor queueing."""
        return 1.0 - self.cpu / self.wall if self.wall > 0 else 0.0


class Measure:
    """Adds up what the first calls took.  No clock of its own.

    A worker's very first call often imports half of the world; where there are others, it does not count.
    That calls *wait* can be said early, and it pays.  That they compute is said only when all are in: until then they
    run in processes anyway.
    """

    def __init__(self) -> None:
        self._first = _Sum()
        self._warm = _Sum()
        self._workers: set[int] = set()

    def add(self, worker: int, wall: float, cpu: float) -> Decision | None:
        """A call has ended; its seconds.  The decision, if it can be made now."""
        (self._warm if worker in self._workers else self._first).add(wall, cpu)
        self._workers.add(worker)
        if self._first.calls + self._warm.calls < PROBES:
            return None
        return _decide(self._counted(), self._first.calls + self._warm.calls, "time")

    def sample(self, running: list[tuple[float, float]]) -> Decision | None:
        """Calls that still run: the seconds of each so far.  The decision, if it can be made now."""
        if not running or min(wall for wall, _ in running) < EARLY_SECONDS:
            return None
        total, counted = _Sum(), self._counted()
        total.wall, total.cpu = counted.wall, counted.cpu
        for wall, cpu in running:
            total.add(wall, cpu)
        if total.waiting <= WAITING_SHARE:
            return None
        return _decide(total, self._first.calls + self._warm.calls + len(running), "time so far")

    def _counted(self) -> _Sum:
        return self._warm if self._warm.calls >= WARM else self._first


def _decide(total: _Sum, calls: int, what: str) -> Decision:
    waiting = total.waiting
    if waiting > WAITING_SHARE:
        return Decision("threads", f"{waiting * 100:.0f} % of the first {_calls(calls)} {what} was waiting")
    return Decision("processes", f"{(1 - waiting) * 100:.0f} % of the first {_calls(calls)} {what} was computing")


def _calls(count: int) -> str:
    return "call's" if count == 1 else f"{count} calls'"
