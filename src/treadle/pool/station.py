"""A pool's outpost on a cluster: what stands at the other end of an engine of `clusters/`.

A station is one worker of a pool far away.  It lives in a process of the cluster's and has a pool of one process there,
so a call that crashes, hangs or swells costs itself and nothing else, as at home.  It is spoken to by `exchange`: bring
new calls, take along the ends of others.  One exchange at a time stays there as long as there is nothing to take along;
meanwhile the cluster knows that its slot is in use.

Everything that travels is bytes and plain values: the process of the cluster loads nothing of the user's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import registry
from .driver import Driver
from .engines.guest import Order
from .engines.processes import ProcessEngine
from .events import Result
from .failures import Exit
from .functions import Function
from .options import DEFAULT, PoolOptions, TaskOptions
from .payloads import decode_arguments, dumps, loads, put_back
from .reactor import Reactor
from .task import CANCELLED, DIED, RETURNED_PACKED, Call, Task

WAIT_SECONDS = 10.0  # so long an exchange stays, where nothing ends
ASK_SECONDS = 1.0  # how often it asks meanwhile whether anybody waits for it
LINGER_SECONDS = 0.02  # and so long where there is something to take along already, but more is to come
LEASE_SECONDS = 30.0  # a station that nobody has come to for so long, closes: its pool is gone
BEAT_SECONDS = 5.0  # so often a pool says that it is there
EARLY_KEPT = 64  # stations that do not exist (yet) of which it is remembered what was recalled

# Of a pool's station: the pool's token and the number of the worker.
Key = tuple[str, int]


class Setup(NamedTuple):
    """What a station needs to open."""

    initializer: bytes | None = None  # the function, pickled, and
    initargs: bytes = b""  # its arguments, pickled
    start_timeout: float | None = None
    max_memory: int | None = None  # bytes that its process may have after a task
    leased: bool = True  # does it close when nobody comes?  Else the cluster ends it with its pool's program


class Request(NamedTuple):
    """What an exchange brings."""

    key: Key
    setup: Setup
    new: bool  # the pool has not spoken to it before; False: if it is not there any more, say so
    orders: list[Order]
    functions: dict[int, bytes]  # those of `orders` that it does not have, pickled
    forget: list[int]  # functions that are not needed any more


class Reply(NamedTuple):
    """What an exchange takes along."""

    pid: int
    results: list[Result]
    given_back: list[int]
    known: bool = True  # False: the station has closed meanwhile, and nothing was done


class Station:
    """One worker.  Thread-safe."""

    def __init__(self, key: Key, setup: Setup, early: set[int]) -> None:
        self._key = key
        self._functions: dict[int, Function] = {}
        self._changed = threading.Condition()  # guards the rest
        self._held: dict[int, Task] = {}  # by the pool's numbers: not ended, or not given back
        self._results: list[Result] = []
        self._given_back: list[int] = []
        # Recalled, and not here: ended, or the exchange that is under way brings them.  So the next one empties it.
        self._early = early
        self._linger = 0.0  # until then, a visitor that waits is told of no end but the last one
        self._last_end = 0  # nanoseconds: when the last call ended
        self._visited = time.monotonic()
        self._visitors = 0
        self._closed = False
        options = PoolOptions(idle_timeout=None, max_memory_per_worker=setup.max_memory)
        if setup.initializer is not None:
            args, _ = decode_arguments(setup.initargs)
            options = PoolOptions(loads(setup.initializer), args, None, setup.max_memory, None, setup.start_timeout)

        def factory(driver: Driver, reactor: Reactor) -> ProcessEngine:
            return ProcessEngine(driver, reactor)

        self._driver = Driver(factory, 1, f"treadle-station-{key[1]}", registry.discard, options)
        registry.add(self._driver, False)
        if setup.leased:
            self._driver.reactor.call_later(LEASE_SECONDS, self._look)

    def exchange(self, request: Request, first: bool = False, wanted: Callable[[], bool] = lambda: True) -> Reply:
        """Take the calls, wait until there is something to say, and say it; the first time say at once who we are.

        `wanted` says whether anybody waits for what will be said: if not, the pool is gone.
        """
        with self._changed:
            self._visitors += 1
        try:
            self._take(request)
            return Reply(os.getpid(), [], []) if first else self._wait(wanted)
        finally:
            with self._changed:
                self._visitors -= 1
                self._visited = time.monotonic()

    def _take(self, request: Request) -> None:
        for number in request.forget:
            self._functions.pop(number, None)
        for number, blob in request.functions.items():
            self._functions[number] = Function(blob)
        tasks: dict[int, Task] = {}
        for order in request.orders:
            variables = self._functions[order.variables] if order.variables else None
            function = self._functions[order.function]
            payload = order.payload
            if order.apart:
                payload = put_back(payload, [self._functions[number].blob for number in order.apart])
            call = Call(_nameless, (), None, function, payload, None, variables)
            plain = order.timeout is None and order.memory_limit is None
            options = DEFAULT if plain else TaskOptions(timeout=order.timeout, memory_limit=order.memory_limit)
            tasks[order.seq] = Task(call, _Sink(self, order.seq), None, options)
        with self._changed:
            early, self._early = self._early, set()
            for seq in early.intersection(tasks):
                del tasks[seq]
                self._given_back.append(seq)
            self._held.update(tasks)
        if tasks and not self._driver.submit(list(tasks.values())):
            raise self._driver.refusal()

    def _wait(self, wanted: Callable[[], bool]) -> Reply:
        now = time.monotonic()
        until, self._linger = now + WAIT_SECONDS, now + LINGER_SECONDS
        with self._changed:
            while True:
                now = time.monotonic()
                some = self._results or self._given_back
                due = self._linger if some or now < self._linger else until
                if not self._held or now >= due:
                    break
                if not self._changed.wait(min(due - now, ASK_SECONDS)) and not wanted():
                    self._closed = True
                    self._driver.abandon()
                    break
            results, self._results = self._results, []
            given_back, self._given_back = self._given_back, []
        return Reply(os.getpid(), results, given_back)

    def ended(self, seq: int, kind: int, data: Any, begin: int) -> None:
        """A call has ended (see `_Sink`), which was brought at `begin` (nanoseconds)."""
        now = time.monotonic_ns()
        with self._changed:
            # There is one process, so what was ahead of it in the queue had that until then.
            nanoseconds = now - max(begin, self._last_end)
            self._last_end = now
            self._held.pop(seq, None)
            if kind == CANCELLED and self._closed:  # it may have been running
                self._results.append((seq, DIED, Exit(None, None), 0, 0))
            elif kind == CANCELLED:
                self._given_back.append(seq)
            else:
                self._results.append((seq, kind, data, nanoseconds, 0))
            # Else, beside short calls, each of them would wake it.
            if not self._held or now >= self._linger * 1e9:
                self._changed.notify_all()

    def recall(self, seqs: Sequence[int], running: bool) -> None:
        """Give back those that have not started; with `running`, end the others too."""
        with self._changed:
            tasks = [task for seq in seqs if (task := self._held.get(seq)) is not None]
            self._early.update(seq for seq in seqs if seq not in self._held)
        if running:
            self._driver.drop(tasks, True)
        else:
            self._driver.recall(tasks)

    def keep(self) -> None:
        """Its pool is there."""
        with self._changed:
            self._visited = time.monotonic()

    def close(self) -> None:
        """End everything."""
        with self._changed:
            self._closed = True
        self._driver.terminate()

    def _look(self) -> None:
        """In the reactor's thread: has it been forgotten?"""
        with self._changed:
            left = LEASE_SECONDS if self._visitors else self._visited + LEASE_SECONDS - time.monotonic()
        if left > 0:
            self._driver.reactor.call_later(left, self._look)
        elif _stations.pop(self._key, None) is not None:
            self._closed = True
            self._driver.shutdown(cancel=True, kill=True)


def _nameless() -> None:
    """Stands for the function, which nobody loads here."""


class _Sink:
    """Where a call ends."""

    def __init__(self, station: Station, seq: int) -> None:
        self._station = station
        self._seq = seq
        self._begin = time.monotonic_ns()

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        if kind == RETURNED_PACKED and not isinstance(data, bytes):
            data = _flat(data)
        # What came as RETURNED is small and plain, and travels as it is.
        self._station.ended(self._seq, kind, data, self._begin)


def _flat(data: Any) -> bytes:
    """A large result, out of shared memory: as bytes that can travel."""
    return dumps(loads(data))


# -- what the cluster calls -------------------------------------------------------------------------------------------

_stations: dict[Key, Station] = {}
_opening = threading.Lock()  # guards the making of entries of both
_early: dict[Key, set[int]] = {}  # what was recalled from stations that do not exist; the last `EARLY_KEPT`


def exchange(request: Request, wanted: Callable[[], bool] = lambda: True) -> Reply:
    """Speak to a station; it opens if it is new.  For `wanted` see `Station.exchange`."""
    station = _stations.get(request.key)
    if station is None:
        if not request.new:
            return Reply(os.getpid(), [], [], False)
        with _opening:
            early = _early.pop(request.key, set())
            station = _stations[request.key] = Station(request.key, request.setup, early)
        return station.exchange(request, True, wanted)
    return station.exchange(request, False, wanted)


def recall(key: Key, seqs: Sequence[int], running: bool) -> None:
    """See `Station.recall`.  It may overtake the exchange that brings these, also the first one."""
    with _opening:
        station = _stations.get(key)
        if station is None:
            _early.setdefault(key, set()).update(seqs)
            if len(_early) > EARLY_KEPT:
                del _early[next(iter(_early))]
    if station is not None:
        station.recall(seqs, running)


def keep(token: str) -> None:
    """The pool is there: its stations in this process are to stay."""
    for key, station in list(_stations.items()):
        if key[0] == token:
            station.keep()


def close(token: str, worker: int | None = None) -> None:
    """Close a pool's stations in this process, or one of them."""
    for key in list(_stations):
        if key[0] == token and worker in (None, key[1]):
            station = _stations.pop(key, None)
            if station is not None:
                station.close()
