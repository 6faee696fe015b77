"""What engines on clusters have in common: one conversation for each worker, with its station far away.

A conversation is one exchange after the other (`pool/station.py`), as long as its worker has calls.  What the pool
gives out meanwhile goes with the next one, and so does what it gives out for the results of the last one; the station
has enough in stock that it need not wait for that.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import ClusterLost, WorkerStartError
from .. import station
from ..abilities import Abilities
from ..engines.guest import Engine, Host, Order, Work
from ..events import Result
from ..failures import Exit
from ..functions import FUNCTIONS_KEPT, FunctionTable
from ..options import PoolOptions
from ..payloads import encode_arguments
from ..task import DIED, RAISED
from .large import LARGE, LargeArguments

ABILITIES = Abilities(timeout=True, memory_limit=True, initializer=True, recall=True)
STOCK_SECONDS = 0.06  # of work that a station may hold: about twice what an exchange takes, with what it lingers
KEPT_BYTES = 256 << 20  # of large things that a station may keep for the next calls
KEPT_ON_CLUSTER = 16  # large things that the cluster keeps for the stations; beyond, they are put there again


class Seat:
    """A worker of the pool, and the conversation with its station.  All fields are guarded by the engine's lock."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.place: Any = None  # where its station is, as the cluster calls it; None: it waits for one
        self.outbox: list[Order] = []  # not under way yet
        self.functions: dict[int, bytes] = {}  # those that `outbox` needs
        self.sent: dict[int, None] = {}  # numbers of calls that the station has, or will have any moment
        # Functions, and large arguments, that the station has, with their sizes; what was used last at the end.
        self.known: dict[int, int] = {}
        self.talking = False  # an exchange is under way
        self.opened = False  # the station was spoken to
        self.pid: int | None = None
        self.request: Any = None  # of the exchange that is under way

    def remember(self, functions: dict[int, bytes]) -> list[int]:
        """The station will have these; which others is it to forget?"""
        for number, blob in functions.items():
            self.known.pop(number, None)
            self.known[number] = len(blob)
        forget = []
        size = sum(self.known.values())
        for number in list(self.known)[: len(self.known) - len(functions)]:  # those that are not needed now
            if len(self.known) <= FUNCTIONS_KEPT + len(functions) and size <= KEPT_BYTES:
                break
            size -= self.known.pop(number)
            forget.append(number)
        return forget


class ClusterEngine(Engine):
    """A subclass says how an exchange is carried, and which places there are."""

    abilities = ABILITIES
    stock_seconds = STOCK_SECONDS
    kept_on_cluster = KEPT_ON_CLUSTER
    leases = True  # has a station to find out by itself that its pool is gone?

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.lock = threading.Lock()  # a leaf: nobody is called under it
        self.seats: dict[int, Seat] = {}
        self.lost: ClusterLost | None = None
        self._setup = station.Setup()
        self._large = LargeArguments()
        self._closed = False

    def open(self, host: Host, options: PoolOptions, workers: int | None) -> None:
        super().open(host, options, workers)
        initializer, initargs = None, b""
        if options.initializer is not None:
            initializer = FunctionTable().encode(options.initializer).blob
            initargs = encode_arguments(options.initargs, None)
        memory = options.max_memory_per_worker
        self._setup = station.Setup(initializer, initargs, options.start_timeout, memory, self.leases)

    # -- what a subclass does

    def carry(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        """Take a request to the station of a seat; `answered` or `failed` follows, in any thread.

        `large` are to be put to the cluster once, and added to the functions of the request there.
        """
        raise NotImplementedError

    def tell(self, seat: Seat, what: Callable[..., None], *args: Any) -> None:
        """Have that called in the process of the station, as soon as possible, whatever it is doing; no answer."""
        raise NotImplementedError

    def leave(self, seat: Seat) -> None:
        """The seat is given up."""

    # -- the pool's side

    def run(self, worker: int, work: Work) -> None:
        orders, apart = self._large.take_out(work.orders)
        with self.lock:
            seat = self.seats.get(worker)
            if seat is None:
                return
            seat.outbox += orders
            seat.functions.update(work.functions)
            seat.functions.update(apart)
        self._speak(seat)

    def _speak(self, seat: Seat) -> None:
        """Start an exchange, if it is time for one."""
        with self.lock:
            if seat.talking or not (seat.outbox or seat.sent) or self.seats.get(seat.worker) is not seat:
                return
            seat.talking = True
            orders, seat.outbox = seat.outbox, []
            functions, seat.functions = seat.functions, {}
            news = {number: blob for number, blob in functions.items() if number not in seat.known}
            forget = seat.remember(functions)
            seat.sent.update(dict.fromkeys(order.seq for order in orders))
            large = {number: blob for number, blob in news.items() if len(blob) >= LARGE}
            small = {number: blob for number, blob in news.items() if len(blob) < LARGE}
            new, seat.opened = not seat.opened, True
            request = station.Request((self.token, seat.worker), self._setup, new, orders, small, forget)
            seat.request = request, functions
        self.carry(seat, request, large)

    def answered(self, seat: Seat, reply: station.Reply) -> None:
        """An exchange has come back."""
        with self.lock:
            seat.talking = False
            seat.pid = reply.pid
            dead: list[Result] = []
            if not reply.known:  # nobody came to it for too long, and it is to be opened again
                request, functions = seat.request
                seat.opened = False
                seat.known.clear()
                for order in request.orders:
                    del seat.sent[order.seq]
                dead = [(seq, DIED, Exit(seat.pid, None), 0, 0) for seq in seat.sent]
                seat.sent.clear()
                seat.outbox[:0] = request.orders
                seat.functions.update(functions)
            seat.request = None
            for result in reply.results:
                seat.sent.pop(result[0], None)
            for seq in reply.given_back:
                seat.sent.pop(seq, None)
        if dead or reply.results:
            self.host.results(seat.worker, [*dead, *reply.results])
        if reply.given_back:
            self.host.given_back(seat.worker, reply.given_back)
        # Not now: what the pool gives out for these is to go with the next exchange, not with the one after that.
        self.host.then(lambda: self.go_on(seat))

    def go_on(self, seat: Seat) -> None:
        """Start the next exchange, unless there is one under way already."""
        self._speak(seat)

    def failed(self, seat: Seat, error: BaseException | None, where: str) -> None:
        """An exchange will not come back: its place is gone (`error` is None), or can't do it.

        Calls that were there may have begun, each of them: for all of them this was an attempt.
        """
        with self.lock:
            if self.seats.pop(seat.worker, None) is not seat:
                return
            sent = list(seat.sent)
            pid = seat.pid
        if error is None:
            self.host.results(seat.worker, [(seq, DIED, Exit(pid, None), 0, 0) for seq in sent])
        else:
            self.host.results(seat.worker, [(seq, RAISED, copy_of(error), 0, 0) for seq in sent])
        self.host.ended(seat.worker, pid=pid, began=False)
        self.leave(seat)

    def fail_all(self, error: ClusterLost) -> None:
        """The cluster is gone."""
        with self.lock:
            if self.lost is not None or self._closed:
                return
            self.lost = error
            seats = list(self.seats.values())
        for seat in seats:
            if seat.place is None:
                self.give_up(seat, error)
            else:
                self.failed(seat, error, "")

    def give_up(self, seat: Seat, error: BaseException | None = None) -> None:
        """It never got a place."""
        with self.lock:
            if self.seats.pop(seat.worker, None) is not seat:
                return
        self.host.ended(seat.worker, error=error)

    def recall(self, worker: int, seqs: Sequence[int], running: bool) -> None:
        with self.lock:
            seat = self.seats.get(worker)
            if seat is None:
                return
            waiting = {order.seq for order in seat.outbox}.intersection(seqs)
            seat.outbox = [order for order in seat.outbox if order.seq not in waiting]
            there = [seq for seq in seqs if seq in seat.sent]
        self.host.given_back(worker, list(waiting))
        if there:
            self.tell(seat, station.recall, (self.token, worker), there, running)

    def stop(self, worker: int) -> None:
        with self.lock:
            seat = self.seats.pop(worker, None)
        if seat is not None:
            if seat.opened:
                self.tell(seat, station.close, self.token, worker)
            self.host.ended(worker, pid=seat.pid)
            self.leave(seat)

    def pid(self, worker: int) -> int | None:
        with self.lock:
            seat = self.seats.get(worker)
            return None if seat is None else seat.pid

    def stays(self) -> bool:
        return self.lost is None

    def begin_close(self) -> bool:
        """True for the first call of `close`."""
        with self.lock:
            first, self._closed = not self._closed, True
            self.seats.clear()
        return first

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._closed


def copy_of(error: BaseException) -> BaseException:
    """One for each task: they get notes of their own."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def not_installed(name: str, where: str, error: BaseException) -> WorkerStartError:
    """The error for a cluster on which this package is missing, or is another one."""
    trouble = WorkerStartError(f"treadle can't run on {name} worker {where}: {error}; install the same treadle there")
    trouble.__cause__ = error
    return trouble
