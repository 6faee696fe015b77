"""Ray: each worker of the pool is an actor, which is its station; an exchange with it is one call of a method.

An actor is not restarted, and no call repeated, by Ray: what becomes of the tasks the pool decides.  A task that needs
other resources than the one before it gets another actor: its seat sends the old one away when that has nothing left.
While an actor that is needed finds no room, seats that have nothing to do send theirs away, also those of the program's
other pools: else a pool that fills its cluster would wait for itself, or for one that is kept warm.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ...errors import ClusterLost, TreadleError, WorkerStartError
from .. import station
from ..engines.guest import Host, Work
from ..options import START_SECONDS, PoolOptions, TaskOptions
from ..task import RAISED
from .base import ABILITIES, ClusterEngine, Seat, copy_of, not_installed
from .ray_link import dismiss, link

Resources = tuple[tuple[str, Any], ...]

LOOK_SECONDS = 0.5  # how often to look at actors that are awaited
RELIEF_SECONDS = 1.0  # so long an actor with work waits for room, before idle ones are sent away
SAY_SECONDS = 10.0  # so long, before the log says so
HEAD_SECONDS = 10.0  # so long the head may be gone
CONNECT_SECONDS = 10.0  # so long it may take to answer, the first time

logger = logging.getLogger("treadle")


class _Hire:
    """The actor of a seat, and what it was made with.  Only the engine's own thread touches it."""

    def __init__(self, actor: Any, kind: Resources) -> None:
        self.actor = actor
        self.kind = kind
        self.here = False  # it has said so
        self.since = time.monotonic()
        self.said = False  # was it logged that there is no room?


class RayEngine(ClusterEngine):
    """``Pool(engine="ray", address=...)`` is ``Pool(engine=RayEngine(...))``.

    `address` is that of a cluster, as for `ray.init` (``"auto"``, ``"host:6379"``, ``"ray://host:10001"``), or None:
    the one that this program is connected to already, else one of its own on this machine.  `num_cpus` (default: 1),
    `num_gpus` and `memory` (bytes) are what each worker needs, where a task does not say.  `connect_timeout` and
    `head_timeout` are in seconds: for so long the cluster may take to answer at first, and its head may be gone later.
    The nodes of the cluster need treadle, the same version of Python, and the modules that the functions come from.

    Raises `ClusterLost` where there is no cluster at that address, `Unsupported` where this program is connected to
    another one: Ray knows one a program, which its pools share.
    """

    name = "ray"
    abilities = ABILITIES._replace(resources=True)
    leases = False  # an actor ends with the program that made it

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        memory: float | None = None,
        connect_timeout: float = CONNECT_SECONDS,
        head_timeout: float = HEAD_SECONDS,
    ) -> None:
        super().__init__()
        if address is not None and not isinstance(address, str):
            raise TypeError(f"the address of Ray must be a text or None, not {address!r}")
        self._address = address
        named = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
        self._resources: Resources = tuple(named_and_wanted(named))
        check(self._resources)
        self._connect_timeout = connect_timeout
        self.patience = head_timeout
        self._wanted: int | None = None
        self._start_timeout: float | None = START_SECONDS
        # What is to be done next, by the thread that speaks to Ray.  Nobody else does: some calls of Ray wait for its
        # own threads, in which its callbacks run, and without a head some wait for a minute.
        self._todo: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._voice = threading.Thread(target=self._speak_up, name="treadle-ray", daemon=True)
        # From here on, that thread's own.
        self._hires: dict[int, _Hire] = {}  # by worker.  Invariant: the actor of each seat that has one
        self._later: dict[int, dict[Resources, Work]] = {}  # work that the actor of a worker has not been given yet
        self._kept: dict[int, Any] = {}  # what is large, as Ray keeps it; what was needed last at the end
        self._doubts: list[Seat] = []  # their actors are gone, or it is only the head that is

    def open(self, host: Host, options: PoolOptions, workers: int | None) -> None:
        super().open(host, options, workers)
        self._wanted = workers
        self._start_timeout = options.start_timeout
        link.join(self, self._address, workers, self._connect_timeout)
        self._voice.start()

    def stays(self) -> bool:
        return super().stays() and link.serves(self)

    def workers(self) -> int:
        if self._wanted is not None:
            return self._wanted
        there: dict[str, float] = ray.cluster_resources()
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        room = [there.get(names[name], 0) / amount for name, amount in self._resources if amount]
        return max(1, math.floor(min(room, default=there.get("CPU", 1)) + 1e-9))

    def accept(self, options: TaskOptions) -> None:
        """It keeps all resources that `Pool.options` knows, in the amounts that Ray knows."""
        check(options.resources)

    def _kind(self, asked: Resources) -> Resources:
        return tuple(named_and_wanted({**dict(self._resources), **dict(asked)}))

    # -- the thread that speaks to Ray

    def _post(self, what: Callable[..., object], *args: Any) -> None:
        self._todo.put(lambda: what(*args))

    def _speak_up(self) -> None:
        looked = time.monotonic()
        while True:
            try:
                todo = self._todo.get(timeout=LOOK_SECONDS if self._awaited() else None)
            except queue.Empty:
                todo = None
            else:
                if todo is None:
                    return
            try:
                if todo is not None:
                    todo()
                if time.monotonic() - looked >= LOOK_SECONDS:
                    looked = time.monotonic()
                    self._look()
            except Exception:  # a bug of ours, or Ray has gone meanwhile: who waits is told by `head_lost`
                if not self.closed and self.lost is None:
                    sys.excepthook(*sys.exc_info())
            del todo  # it holds what it was called with

    def _awaited(self) -> bool:
        return any(not hire.here for hire in self._hires.values())

    # -- actors

    def start(self, worker: int) -> None:
        seat = Seat(worker)
        with self.lock:
            lost = self.lost
            if lost is None:
                self.seats[worker] = seat
        if lost is None:
            self._post(self._hire, seat, self._resources)
        else:
            self.host.ended(worker, error=copy_of(lost))

    def _hire(self, seat: Seat, kind: Resources) -> None:
        """Have an actor of that kind for the seat; a word of it says that it is there."""
        with self.lock:
            if self.seats.get(seat.worker) is not seat:
                return
        if not link.serves(self):  # Ray would start another cluster for it
            self._give_up(seat, kind, ClusterLost("this program has left the Ray cluster of this pool"))
            return
        try:
            actor = link.find(kind)
            if actor is None:
                how = {**dict(kind), "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 4}
                actor = _actor_class().options(**how).remote()
            hire = self._hires[seat.worker] = _Hire(actor, kind)
            self._when_done(actor.hello.remote(), lambda _, error: self._post(self._arrived, seat, hire, error))
        except Exception as error:
            self._give_up(seat, kind, WorkerStartError(f"a Ray actor with {said(kind)} can't be had: {error}"))

    def _arrived(self, seat: Seat, hire: _Hire, error: BaseException | None) -> None:
        if self._hires.get(seat.worker) is not hire:  # it was sent away
            return
        if error is not None:
            if link.reachable():
                self._give_up(seat, hire.kind, WorkerStartError(f"a Ray actor can't be started: {error}"))
            else:
                self._doubts.append(seat)
            return
        hire.here = True
        first = seat.place is None
        with self.lock:
            seat.place = hire.actor
            seat.opened = False
            seat.known.clear()
        if first:
            self.host.ready(seat.worker)
        self._advance(seat)

    def _look(self) -> None:
        """Now and then, while actors are awaited: who has waited for too long, and can room be made?"""
        now = time.monotonic()
        wanting = 0
        nobody = not any(hire.here for hire in self._hires.values())  # works here: then any of them is wanted
        for worker, hire in list(self._hires.items()):
            seat = self.seats.get(worker)
            if hire.here or seat is None:
                continue
            waited = now - hire.since
            if self._start_timeout is not None and waited >= self._start_timeout:
                words = f"the Ray cluster had no room for an actor with {said(hire.kind)} for {self._start_timeout:g} s"
                self._give_up(seat, hire.kind, ClusterLost(words))
                continue
            if not self._later.get(worker) and not nobody:
                continue
            wanting += waited >= RELIEF_SECONDS
            if waited >= SAY_SECONDS and not hire.said:
                hire.said = True
                logger.warning(
                    "the Ray cluster has no room for an actor with %s; calls that need it wait, at most for %s",
                    said(hire.kind), "ever" if self._start_timeout is None else f"{self._start_timeout:g} s",
                )  # fmt: skip
        if wanting:
            link.make_room()
            wanting = self._make_room(wanting)
        if wanting:
            link.ask_for_room(self, wanting)

    def _make_room(self, wanted: int) -> int:
        """Send so many idle actors away; how many there were not."""
        for worker in list(self._hires):
            if not wanted:
                break
            if self._idle(worker):
                wanted -= 1
                self._send_away(worker)
        return wanted

    def room_is_wanted(self, wanted: int) -> None:
        """Called by the link, for another pool of this program."""
        self._post(self._make_room, wanted)

    def _idle(self, worker: int) -> bool:
        with self.lock:
            seat = self.seats.get(worker)
            quiet = seat is not None and not (seat.sent or seat.outbox or seat.talking)
        return quiet and self._hires[worker].here and not self._later.get(worker)

    def _send_away(self, worker: int) -> None:
        """The actor of a seat; the seat gets another one when it has something to do."""
        hire = self._hires.pop(worker, None)
        if hire is not None and self.lost is None:
            dismiss(hire.actor)

    def _give_up(self, seat: Seat, kind: Resources, error: TreadleError) -> None:
        """There is no actor of that kind for the seat."""
        if seat.place is None:
            self.give_up(seat, error)
            self._forget(seat.worker)
            return
        self._send_away(seat.worker)
        work = self._later.get(seat.worker, {}).pop(kind, None)
        if work is not None:
            self.host.results(seat.worker, [(order.seq, RAISED, copy_of(error), 0, 0) for order in work.orders])
        self._advance(seat)

    def leave(self, seat: Seat) -> None:
        self._post(self._forget, seat.worker)

    def _forget(self, worker: int) -> None:
        self._later.pop(worker, None)
        self._send_away(worker)

    # -- work

    def run(self, worker: int, work: Work) -> None:
        self._post(self._run, worker, work)

    def _run(self, worker: int, work: Work) -> None:
        seat = self.seats.get(worker)
        if seat is None:
            return
        waits = self._later.setdefault(worker, {})
        for order in work.orders:
            part = waits.setdefault(self._kind(order.resources), Work((), {}))
            part.orders.append(order)
            part.functions.update(work.functions)
        self._advance(seat)

    def _advance(self, seat: Seat) -> None:
        """Give its actor what that can do; or have another one, if it has nothing left and there is work for that."""
        worker = seat.worker
        waits = self._later.get(worker)
        if not waits or self.seats.get(worker) is not seat:
            return
        hire = self._hires.get(worker)
        if hire is None:
            self._hire(seat, next(iter(waits)))
        elif not hire.here:
            return
        elif hire.kind in waits:
            super().run(worker, waits.pop(hire.kind))
        elif not (seat.sent or seat.outbox or seat.talking):
            self._send_away(worker)
            self._hire(seat, next(iter(waits)))

    def recall(self, worker: int, seqs: Sequence[int], running: bool) -> None:
        self._post(self._recall, worker, seqs, running)

    def _recall(self, worker: int, seqs: Sequence[int], running: bool) -> None:
        wanted = set(seqs)
        back: list[int] = []
        waits = self._later.get(worker, {})
        for kind, work in list(waits.items()):
            back += [order.seq for order in work.orders if order.seq in wanted]
            work.orders = [order for order in work.orders if order.seq not in wanted]
            if not work.orders:
                del waits[kind]
        if back:
            self.host.given_back(worker, back)
        super().recall(worker, seqs, running)

    def stop(self, worker: int) -> None:
        self._post(super().stop, worker)

    # -- conversations

    def go_on(self, seat: Seat) -> None:
        self._post(super().go_on, seat)

    def carry(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        actor = seat.place
        try:
            kept = [self._keep(number, blob) for number, blob in large.items()]
            talk = actor.exchange.remote(request, list(large), *kept)
        except Exception as error:
            self._over(seat, actor, error)
            return
        self._when_done(talk, lambda reply, error: self._post(self._over, seat, actor, error, reply))

    def _keep(self, number: int, blob: bytes) -> Any:
        """Have the cluster keep it, if it does not."""
        kept = self._kept.pop(number, None)
        self._kept[number] = ray.put(blob) if kept is None else kept
        while len(self._kept) > self.kept_on_cluster:
            del self._kept[next(iter(self._kept))]
        return self._kept[number]

    @staticmethod
    def _when_done(reference: Any, then: Callable[[Any, BaseException | None], None]) -> None:
        def done(future: Any) -> None:  # in a thread of Ray's, which is not to be kept waiting
            error = future.exception()
            then(None if error is not None else future.result(), error)

        reference.future().add_done_callback(done)

    def _over(self, seat: Seat, actor: Any, error: BaseException | None, reply: Any = None) -> None:
        if error is None:
            self.answered(seat, reply)
            self._advance(seat)
        elif isinstance(error, RayTaskError):  # the actor lives, and can't do it
            cause = error.cause
            mine = cause if isinstance(cause, TreadleError) else not_installed("Ray", str(actor), cause or error)
            self.failed(seat, mine, "")
        elif not link.reachable():  # is it the actor that is gone, or all of them?
            self._doubts.append(seat)
        elif isinstance(error, RayActorError):
            self.failed(seat, None, "")
        else:
            trouble = ClusterLost(f"Ray can't reach an actor: {error}")
            trouble.__cause__ = error
            self.failed(seat, trouble, "")

    def tell(self, seat: Seat, what: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(Exception):  # it is gone: so is what was to be told
            if not ray.is_initialized():  # Ray would start another cluster to say it in
                return
            seat.place.aside.remote(what, *args)

    # -- the head

    def head_answers(self) -> None:
        """Called by the link now and then."""
        if self._doubts:
            self._post(self._doubtless)

    def _doubtless(self) -> None:
        doubts, self._doubts = self._doubts, []
        for seat in doubts:
            if seat.place is None:
                self.give_up(seat, WorkerStartError("a Ray actor can't be started: its node is gone"))
                self._forget(seat.worker)
            else:
                self.failed(seat, None, "")

    def head_lost(self, error: ClusterLost) -> None:
        """Called by the link, once."""
        self.fail_all(error)

    # -- the end

    def close(self) -> None:
        if not self.begin_close():
            return
        self._todo.put(self._end)
        self._todo.put(None)
        if self._voice.ident is not None:
            self._voice.join(2 * LOOK_SECONDS if self.lost is not None else 10.0)
        link.leave(self)

    def _end(self) -> None:
        for worker, hire in list(self._hires.items()):
            with contextlib.suppress(Exception):
                if hire.here and self.lost is None and link.serves(self) and link.spare(hire.actor, hire.kind):
                    hire.actor.aside.remote(station.close, self.token)
                    del self._hires[worker]
                    continue
            self._send_away(worker)
        self._later.clear()
        self._kept.clear()


def named_and_wanted(amounts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What Ray has to be told: of CPUs also that there need be none."""
    return ((name, amount) for name, amount in amounts.items() if amount or name == "num_cpus")


def check(amounts: Resources) -> None:
    """Raise ValueError for what Ray does not give out."""
    for name, amount in amounts:
        if name != "memory" and amount > 1 and amount != int(amount):
            raise ValueError(f"{name} must be a part of one or a whole number, not {amount}")


def said(kind: Resources) -> str:
    """``num_cpus=1, num_gpus=2``."""
    return ", ".join(f"{name}={value:g}" for name, value in kind) or "no resources"


class _Actor:
    """A station, in a process of Ray's."""

    def hello(self) -> None:
        """It is there."""

    def exchange(self, request: station.Request, numbers: list[int], *blobs: bytes) -> station.Reply:
        """See `station.exchange`."""
        if numbers:
            request = request._replace(functions={**request.functions, **dict(zip(numbers, blobs, strict=True))})
        return station.exchange(request._replace(new=True) if request.orders else request)

    def aside(self, what: Callable[..., None], *args: Any) -> None:
        """Something that has no answer."""
        what(*args)


def _actor_class() -> Any:
    return ray.remote(_Actor)
