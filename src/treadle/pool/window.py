"""How far a map may run ahead of its reader: pure."""

from __future__ import annotations

FIRST = 4  # tasks a worker, to begin with
LARGEST = 4096  # tasks; beyond it nothing is gained, even by the smallest ones
BYTES = 64 << 20  # of pickled inputs and unread results


class Window:
    """Counts what is submitted and unread.

    A window that is too small leaves workers idle, one that is too large keeps results in memory.  So it starts small
    and doubles when the workers have run dry and the reader has found nothing to read.  (If only the workers have, the
    reader is slow, and needs no more.)  With a `buffer` it is fixed.
    """

    def __init__(self, workers: int, buffer: int | None = None) -> None:
        self.workers = workers
        self._fixed = buffer is not None
        self.limit = buffer if buffer is not None else FIRST * workers
        # Invariant: 0 <= unfinished <= unread <= the largest limit there has been.
        self.unread = 0
        self.unfinished = 0
        # Invariant: 0 <= bytes; it counts the inputs of unread tasks and the results that have arrived for them.
        self.bytes = 0
        self.hungry = False  # has the reader found nothing to read, since the window last grew?
        self._result = 0.0  # bytes of a result, smoothed

    def wants(self) -> int:
        """How many more tasks to submit now; 0 also while it is not worth the trouble yet."""
        # What is on its way counts as well: a hundred results of a megabyte may arrive before the next look.
        spare = BYTES - self.bytes - self.unfinished * self._result
        if spare < self._result:
            return 0 if self.unread else 1
        if self.hungry and not self._fixed and self.unfinished < self.workers:
            self.hungry = False
            self.limit = min(LARGEST, self.limit * 2)
        room = self.limit - self.unread
        if room < max(1, self.limit // 8):
            return 0
        return room if room * self._result <= spare else int(spare / self._result)

    def submitted(self, count: int, size: int) -> None:
        """So many tasks, of so many bytes, were submitted."""
        self.unread += count
        self.unfinished += count
        self.bytes += size

    def finished(self, size: int) -> None:
        """One has ended, with a result of so many bytes."""
        self.unfinished -= 1
        self.bytes += size
        self._result += (size - self._result) / 8 if self._result else size

    def read(self, count: int, size: int) -> None:
        """So many were handed to the reader; `size` is that of their inputs and results."""
        self.unread -= count
        self.bytes -= size
