"""Pools that one `treadle.map` has done with, kept warm for the next one.

A map has its pool for itself while it runs; so one map never waits for another, and whoever leaves a map early may end
its pool by force.  Only one that has ended in peace comes to the shelf.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from . import inside, registry
from .driver import Driver
from .worker import environment

KEPT = 2  # pools on the shelf; with more, the one that has been there for longest is closed

# What tells one pool from another: engine, workers, start method, address.
# Or None, an engine that somebody made: it serves one pool.
Key = tuple[str | None, int | None, str | None, Any]


class Lease:
    """A pool that is somebody's until `give_back`."""

    def __init__(self, key: Key, driver: Driver, surroundings: bytes) -> None:
        self.driver = driver
        self._key = key
        self._surroundings = surroundings

    def give_back(self) -> None:
        """All tasks have ended.  Keep the pool for the next one, if that makes sense; wait for its end if not."""
        driver = self.driver
        # A forked worker has what the program had then; the next map's workers are to have what it has then.
        registry.add(driver, True)  # at the end of the program: let its workers leave in peace
        if (
            self._key[0] is None
            or self._key[2] == "fork"
            or driver.closing
            or _shelf.setdefault(self._key, self) is not self
        ):
            driver.shutdown()
            driver.wait_closed()
            return
        while len(_shelf) > KEPT:
            with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # somebody else was faster
                _shelf.pop(next(iter(_shelf))).driver.shutdown()

    def fits(self, surroundings: bytes) -> bool:
        """Can it serve another one, in these surroundings?"""
        guest = getattr(self.driver.engine, "guest", None)
        return not self.driver.closing and self._surroundings == surroundings and (guest is None or bool(guest.stays()))


# Only `dict` operations that are atomic by themselves, so that no lock is held when somebody is interrupted or forks.
_shelf: dict[Key, Lease] = {}


def lease(key: Key, make: Callable[[], Driver]) -> Lease:
    """A warm pool of that kind, or a new one."""
    surroundings = b"" if key[0] == "threads" else environment(inside.mirrored())
    found = _shelf.pop(key, None) if key[0] is not None else None
    if found is not None:
        if found.fits(surroundings):
            registry.add(found.driver, False)
            found.driver.renew()
            return found
        found.driver.shutdown()
    return Lease(key, make(), surroundings)


def close() -> None:
    """End all pools on the shelf, and wait for that.  The next map starts a new one."""
    while _shelf:
        with contextlib.suppress(KeyError):
            driver = _shelf.popitem()[1].driver
            driver.shutdown()
            driver.wait_closed()
