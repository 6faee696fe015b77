"""How a pool comes by its driver: a new one, or a warm one for a single map."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from . import catalog, registry, stats, warm
from .decision import Decision
from .driver import Driver
from .engines.auto import AutoEngine
from .engines.base import Engine
from .engines.processes import ProcessEngine
from .engines.threads import ThreadEngine
from .options import PLAIN, PoolOptions
from .reactor import Reactor

if TYPE_CHECKING:
    from ..recording import Recorder
    from .engines.guest import Engine as PublicEngine

_names = itertools.count(1)


def open_driver(
    workers: int | None,
    engine: str | PublicEngine,
    start_method: str | None,
    finish: bool,
    options: PoolOptions = PLAIN,
    recorder: Recorder | None = None,
    address: Any = None,
) -> Driver:
    """A new driver, known to the registry until it has closed; a recorder stops then."""

    def factory(driver: Driver, reactor: Reactor) -> Engine:
        if engine == "threads":
            return ThreadEngine(driver, reactor)
        if engine == "interpreters":
            from .engines.interpreters import InterpreterEngine

            return InterpreterEngine(driver, reactor)
        guest = None if engine == "processes" else catalog.make(engine, address)
        if guest is not None:
            from .engines.hosting import HostingEngine

            return HostingEngine(driver, reactor, guest, options, workers)
        if engine == "inline":
            from .engines.inline import InlineEngine

            return InlineEngine(driver, reactor)
        if engine == "processes":
            return ProcessEngine(driver, reactor, start_method or "forkserver", options.dumps)
        return AutoEngine(driver, reactor, start_method or "forkserver")

    def closed(driver: Driver) -> None:
        registry.discard(driver)
        if recorder is not None:
            recorder.stop()

    driver = Driver(factory, workers, f"treadle-pool-{next(_names)}", closed, options)
    registry.add(driver, finish)
    if hasattr(driver.engine, "guest"):  # it has something to close, even if it is never used
        driver.reactor.start()
    return driver


def decision(driver: Driver) -> Decision | None:
    """Which engine a driver uses, and why."""
    engine = driver.engine
    if isinstance(engine, AutoEngine):
        return engine.decision
    return Decision(engine.name, "asked for")


class Owned:
    """The pool of one `treadle.map`: nobody else sees it as long as the map runs."""

    def __init__(self, lease: warm.Lease, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self._lease = lease
        self.driver = lease.driver
        self._left: tuple[Decision | None, stats.PoolStats] | None = None

    @property
    def decision(self) -> Decision | None:
        return self._left[0] if self._left is not None else decision(self.driver)

    def stats(self) -> stats.PoolStats:
        return self._left[1] if self._left is not None else stats.take(self.driver)

    def leave(self) -> None:
        self._left = decision(self.driver), stats.take(self.driver)._replace(workers=[])
        self._lease.give_back()


def lease(
    workers: int | None,
    engine: str | PublicEngine,
    start_method: str | None,
    address: Any,
    recorder: Recorder | None,
) -> Owned:
    """A pool for one map: one that another map has left, or a new one."""
    leased = warm.lease(
        (engine if isinstance(engine, str) else None, workers, start_method, address),
        lambda: open_driver(workers, engine, start_method, False, PLAIN, None, address),
    )
    return Owned(leased, recorder)
