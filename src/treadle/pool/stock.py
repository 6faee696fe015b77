"""How much work a worker may hold, as the brain has learned from how long tasks take.

A worker is given several short tasks at once (a batch, about `BATCH_SECONDS` of work), so that a short task costs no
round trip.  Pure, as `state.py` is.
"""

from __future__ import annotations

from .crew import Crew
from .options import PoolOptions

__all__ = ["Stock"]

BATCH_SECONDS = 0.004  # how much work a worker may hold
BATCH_TASKS = 512  # and how many tasks
OVERHEAD_SECONDS = 4e-6  # what a worker needs for a task beside running it
PREFETCH_BELOW = 0.02  # seconds: a task shorter than this has the next one waiting behind it


class Stock(Crew):
    """The workers, and what each of them may hold."""

    def __init__(self, workers: int, options: PoolOptions, keep: int, stoppable: bool, batches: bool) -> None:
        super().__init__(workers, options, keep, stoppable)
        self.batches = batches  # False: one task a worker, however short they are
        self.stock_seconds = BATCH_SECONDS  # how much work a worker may hold
        self.least_stock = 1  # and how many tasks, however long they take
        self._timeless = 0  # items that have ended since `pace` was last told a time
        self._unlearn()

    def _unlearn(self) -> None:
        """Know nothing of how long tasks take."""
        self._mean = 0.0  # seconds a task takes, smoothed; 0.0: not known yet
        self._unlearned: tuple[int, float] = 0, 0.0  # nanoseconds and number of tasks that `_mean` does not have so far
        self.pace = 0.0  # seconds that an item takes, a task or one of a run, of late; 0.0: not known yet
        self._quota = 1  # tasks that a worker may hold
        # Invariant: _quota; where results do not come many at once anyway, half of it if that is more than 2.
        self._low = 1
        self._reopen()

    def _pace(self, nanoseconds: int, items: int) -> None:
        self._timeless += items
        if nanoseconds and self._timeless:  # of a run the time of several items is told with the last of them
            each = nanoseconds / 1e9 / self._timeless
            self._timeless = 0
            # By so much at most: a worker that had to wait for a CPU in between tells nothing.
            self.pace = min(max(each, self.pace / 2), self.pace * 1.5) if self.pace else each

    def _learn(self, seconds: float, count: int) -> None:
        """Adapt the batch size to how long tasks take."""
        if not self.batches:
            return
        weight = min(0.5, 0.02 * count) if self._mean else 1.0
        self._mean += weight * (seconds - self._mean)
        if seconds > self._mean * 4:  # tasks have become much longer: believe it at once
            self._mean = seconds
        if self._mean >= PREFETCH_BELOW:
            quota = max(self.least_stock, int(self.stock_seconds / self._mean))
        else:
            quota = min(BATCH_TASKS, max(2, int(self.stock_seconds / (self._mean + OVERHEAD_SECONDS))))
        if quota != self._quota:
            self._quota = quota
            self._low = quota if quota <= 2 or self.least_stock > 1 else quota // 2
            self._reopen()

    def _reopen(self) -> None:
        """The quota has changed: find out anew who wants tasks."""
        self._open = {worker.id: worker for worker in self.workers.values() if self._wants(worker)}

    def stock(self, worker_id: int) -> float:
        """How many seconds of work the worker holds, by experience; 0.0 where nothing is known."""
        worker = self.workers.get(worker_id)
        if worker is None or not self._mean:
            return 0.0
        return len(worker.assigned) * (self._mean + OVERHEAD_SECONDS)
