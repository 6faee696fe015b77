"""Which workers are awaited, and until when."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ..reactor import Reactor


class Patience:
    """Gives up those that are not ready after so many seconds: one timer, however many workers.  Thread-safe."""

    def __init__(self, reactor: Reactor, give_up: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._give_up = give_up  # called in the reactor's thread
        self.seconds: float | None = None  # None: any time
        self._lock = threading.Lock()  # guards: _until.  Rank: a leaf.
        # By worker, the earliest first.  Invariant: while one of them is finite, a timer runs.
        self._until: OrderedDict[int, float] = OrderedDict()

    def begin(self, worker: int) -> None:
        """From now on this one is awaited."""
        seconds = math.inf if self.seconds is None else self.seconds
        with self._lock:
            first = not self._until
            self._until[worker] = time.monotonic() + seconds
        if first and self.seconds is not None:
            self._reactor.call_later(self.seconds, self._look)

    def end(self, worker: int) -> bool:
        """It is there, or gone; False if it was given up before."""
        with self._lock:
            return self._until.pop(worker, None) is not None

    def hurry(self, worker: int, seconds: float) -> None:
        """Nobody needs it any more: if it is still awaited after so many seconds, it is given up."""
        self._reactor.call_later(seconds, lambda: self._give_up(worker) if self.end(worker) else None)

    def _look(self) -> None:
        now = time.monotonic()
        late: list[int] = []
        with self._lock:
            while self._until:
                worker, until = next(iter(self._until.items()))
                if until > now:
                    break
                del self._until[worker]
                late.append(worker)
            due = next(iter(self._until.values()), None)
        if due is not None:
            self._reactor.call_later(due - now, self._look)
        for worker in late:
            self._give_up(worker)

    def after_fork(self) -> None:
        """In a forked child: there is nobody to wait for."""
        self._lock = threading.Lock()
        self._until.clear()
