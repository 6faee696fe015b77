"""Barrier: threads wait for each other, and go on together."""

from __future__ import annotations

from collections.abc import Callable
from threading import BrokenBarrierError

from treadle._native._core import Condition, Lock

__all__ = ["Barrier", "BrokenBarrierError"]


class _Round:
    """One filling of the barrier.  A waiter belongs to its round whatever happens to the barrier afterwards.

    Invariant: outcome changes once, from None; arrived doesn't change after that.
    """

    __slots__ = ("arrived", "outcome")

    def __init__(self) -> None:
        self.arrived = 0
        self.outcome: str | None = None  # "through", "broken" or "reset"


class Barrier:
    """`parties` threads wait in `wait()` until all of them are there; then all go on.

    `action`, if given, is called by one of them before they do.  `timeout` (seconds) is the default for `wait()`.
    ValueError if parties < 1.  Thread-safe; for one process.
    """

    # Invariant: _round.outcome is None: whoever gives a round its outcome puts a new one in its place.

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self._changed = Condition(Lock())
        self._parties = parties
        self._action = action
        self._timeout = timeout
        self._broken = False
        self._round = _Round()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others.  Return a number from 0 to parties - 1, another one in each thread.

        Raises `BrokenBarrierError` if the barrier is or gets broken, is reset meanwhile, or not all come within
        `timeout` seconds (None: the barrier's own time-out).
        """
        if timeout is None:
            timeout = self._timeout
        with self._changed:
            if self._broken:
                raise BrokenBarrierError
            this = self._round
            index = this.arrived
            this.arrived += 1
            try:
                if this.arrived == self._parties:
                    if self._action is not None:
                        self._action()
                    self._end("through")
                else:
                    self._changed.wait_for(lambda: this.outcome is not None, timeout)
            finally:
                if this.outcome is None:  # out of time, interrupted, or the action failed: the others wait in vain
                    self._break()
            if this.outcome != "through":
                raise BrokenBarrierError
            return index

    def _end(self, outcome: str) -> None:
        self._round.outcome = outcome
        self._round = _Round()
        self._changed.notify_all()

    def _break(self) -> None:
        self._broken = True
        self._end("broken")

    def reset(self) -> None:
        """Back to empty: whoever waits gets `BrokenBarrierError`, and the barrier is no longer broken."""
        with self._changed:
            self._broken = False
            self._end("reset")

    def abort(self) -> None:
        """Break the barrier: `wait()` raises `BrokenBarrierError` from now on, until `reset()`."""
        with self._changed:
            self._break()

    @property
    def parties(self) -> int:
        """How many threads it takes."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._round.arrived

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._broken

    def __repr__(self) -> str:
        name = f"treadle.{type(self).__qualname__}" if type(self) is Barrier else type(self).__qualname__
        if self._broken:
            return f"<{name} at {id(self):#x}: broken>"
        return f"<{name} at {id(self):#x}: waiters={self.n_waiting}/{self._parties}>"


Barrier.__module__ = "treadle.threading"
