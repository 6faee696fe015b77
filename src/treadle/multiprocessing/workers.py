"""The workers of a pool, as programs look at them that know `Pool._pool` of the standard library."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..pool.driver import Driver

UP_SECONDS = 30.0  # to wait at most for processes that are being started
LOOK_SECONDS = 0.002  # between two looks whether they are there


class PoolWorker:
    """One worker, with some of the interface of a process."""

    def __init__(self, driver: Driver, id: int, pid: int | None) -> None:
        self._driver = driver
        self._id = id
        self.pid = pid
        self.name = f"PoolWorker-{id}"
        self.daemon = True

    @property
    def ident(self) -> int | None:
        """The same as `pid`."""
        return self.pid

    @property
    def exitcode(self) -> int | None:
        """None while it lives; then -1, for how it ended is not kept."""
        return None if self.is_alive() else -1

    def is_alive(self) -> bool:
        """Is it still one of the pool's?"""
        return any(row[0] == self._id for row in self._driver.snapshot()[1])

    def terminate(self) -> None:
        """End it.  The call that it runs fails with `WorkerDied`; another worker takes its place."""
        self._driver.engine.kill(self._id, None)

    kill = terminate

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.pid}>"


def workers_of(driver: Driver, count: int) -> list[PoolWorker]:
    """All `count` workers, once each has a pid; fewer if the pool is closed, or if they don't come up."""
    if not driver.closing:
        driver.warm()
    until = time.monotonic() + UP_SECONDS
    while True:
        rows = driver.snapshot()[1]
        there = len(rows) >= count and all(row[2] is not None for row in rows)
        if there or driver.closing or time.monotonic() > until:
            return [PoolWorker(driver, row[0], row[2]) for row in rows]
        time.sleep(LOOK_SECONDS)
