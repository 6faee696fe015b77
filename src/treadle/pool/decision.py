"""How ``engine="auto"`` chooses: a pure measure of the first calls.

IO wants threads, CPU wants processes: a call that waits leaves its CPU idle, so it does no harm that threads share one
interpreter; a call that computes needs an interpreter of its own.  What tells them apart is the share of a call's wall
time during which it used the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

PROBES = 8  # calls that are measured before the choice
EARLY_SECONDS = 0.1  # a call that has waited this long need not be waited for
LATE_SECONDS = 1.0  # nor one that has computed this long
WAITING_SHARE = 0.5  # above it: threads


class Decision(NamedTuple):
    """Which engine was chosen, and why."""

    engine: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine}: {self.reason}"


class Measure:
    """Adds up the wall and CPU time of the first calls.  No clock of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.wall = 0.0
        self.cpu = 0.0

    def add(self, wall: float, cpu: float) -> Decision | None:
        """One call has ended; seconds of each.  The decision, if it can be made now."""
        self.calls += 1
        self.wall += wall
        self.cpu += min(cpu, wall)
        enough = self.calls >= PROBES or (self.calls >= 2 and self.wall >= LATE_SECONDS)
        return self._decide(f"the first {_calls(self.calls)} time") if enough else None

    def sample(self, running: list[tuple[float, float]]) -> Decision | None:
        """Calls that still run: seconds of wall and of CPU time so far.  The decision, if it can be made now."""
        if not running:
            return None
        wall = self.wall + sum(w for w, _ in running)
        cpu = self.cpu + sum(min(c, w) for w, c in running)
        shortest = min(w for w, _ in running)
        count = self.calls + len(running)
        waits = wall - cpu > WAITING_SHARE * wall
        if shortest >= (EARLY_SECONDS if waits else LATE_SECONDS):
            total = Measure()
            total.wall, total.cpu = wall, cpu
            return total._decide(f"the first {_calls(count)} time so far")
        return None

    def _decide(self, what: str) -> Decision:
        waiting = 1.0 - self.cpu / self.wall if self.wall > 0 else 0.0
        if waiting > WAITING_SHARE:
            return Decision("threads", f"{waiting * 100:.0f} % of {what} was waiting")
        return Decision("processes", f"{(1 - waiting) * 100:.0f} % of {what} was computing")


def _calls(count: int) -> str:
    return "call's" if count == 1 else f"{count} calls'"
