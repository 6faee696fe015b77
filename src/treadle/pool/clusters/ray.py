"""Ray: each worker of the pool is an actor, which is its station; an exchange with it is one call of a method.

An actor is not restarted, and no call repeated, by Ray: what becomes of the tasks the pool decides.  A task that needs
other resources than the one before it gets another actor: its seat sends the old one away when that has nothing left.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ...errors import ClusterLost, Unsupported, WorkerStartError
from .. import station
from ..engines.guest import Host, Order, Work
from ..options import START_SECONDS, PoolOptions, TaskOptions
from .base import ABILITIES, ClusterEngine, Seat, not_installed

Resources = tuple[tuple[str, Any], ...]


class RayEngine(ClusterEngine):
    """``Pool(engine="ray", address=...)`` is ``Pool(engine=RayEngine(...))``.

    `address` is that of a cluster, as for `ray.init` (``"auto"``, ``"host:6379"``, ``"ray://host:10001"``), or None:
    the one that this program is connected to already, else one of its own on this machine.  `num_cpus` (default: 1),
    `num_gpus` and `memory` (bytes) are what each worker needs, where a task does not say.  The nodes of the cluster
    need treadle, the same version of Python, and the modules that the functions come from.

    Raises `ClusterLost` where there is no cluster at that address.
    """

    name = "ray"
    abilities = ABILITIES._replace(resources=True)

    def __init__(
        self, address: str | None = None, *, num_cpus: float = 1, num_gpus: float = 0, memory: float | None = None
    ) -> None:
        super().__init__()
        if address is not None and not isinstance(address, str):
            raise TypeError(f"the address of Ray must be a text or None, not {address!r}")
        self._address = address
        named = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
        self._resources: Resources = tuple((name, value) for name, value in named.items() if value)
        self._ours = False  # did we connect this program?
        self._wanted: int | None = None
        self._patience: float | None = START_SECONDS
        self._put: dict[int, Any] = {}  # large functions, as Ray keeps them
        self._actors: dict[int, Any] = {}  # by worker; with `_later`, guarded by `lock`
        self._kinds: dict[int, Resources] = {}  # what the actor of a worker was made with
        self._later: dict[int, list[tuple[Resources, Work]]] = {}  # work that the actor of a worker is not made for

    def open(self, host: Host, options: PoolOptions, workers: int | None) -> None:
        super().open(host, options, workers)
        self._wanted = workers
        self._patience = options.start_timeout
        if ray.is_initialized():
            if self._address is not None:
                raise Unsupported(
                    "this program is connected to a Ray cluster already: give no address", "ray", "address"
                )
            return
        try:
            if self._address is None:
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
            else:
                ray.init(address=self._address, log_to_driver=False, configure_logging=False)
        except (RayError, OSError, RuntimeError) as error:
            raise ClusterLost(f"no Ray cluster answers at {self._address}: {error}") from error
        self._ours = True

    def workers(self) -> int:
        if self._wanted is not None:
            return self._wanted
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def accept(self, options: TaskOptions) -> None:
        """It keeps all resources that `Pool.options` knows."""

    # -- actors

    def start(self, worker: int) -> None:
        seat = Seat(worker)
        with self.lock:
            self.seats[worker] = seat
        self._hire(seat, self._resources)

    def _hire(self, seat: Seat, kind: Resources) -> None:
        """Have an actor of that kind for the seat; a word of it says that it is there."""
        how = dict(kind)
        actor = _actor_class().options(**how, max_restarts=0, max_task_retries=0, max_concurrency=4).remote()
        first = seat.place is None
        with self.lock:
            self._actors[seat.worker] = actor
            self._kinds[seat.worker] = kind
            seat.place = actor
            seat.opened = False
            seat.known.clear()
        if first:
            timer = None
            if self._patience is not None:
                timer = threading.Timer(self._patience, self._late, (seat, actor, how))
                timer.daemon = True
                timer.start()
            self._when_done(actor.hello.remote(), lambda value, error: self._arrived(seat, timer, error))

    def _arrived(self, seat: Seat, timer: threading.Timer | None, error: BaseException | None) -> None:
        if timer is not None:
            timer.cancel()
        if error is None:
            self.host.ready(seat.worker)
        else:
            self.give_up(seat, WorkerStartError(f"a Ray actor can't be started: {error}"))

    def _late(self, seat: Seat, actor: Any, how: dict[str, Any]) -> None:
        with self.lock:
            here = self.seats.get(seat.worker) is seat
        if here:
            words = f"the Ray cluster had no room for an actor with {how} for {self._patience:g} s"
            self.give_up(seat, ClusterLost(words))
            self._dismiss(actor)

    @staticmethod
    def _dismiss(actor: Any) -> None:
        with contextlib.suppress(Exception):
            ray.kill(actor, no_restart=True)

    def leave(self, seat: Seat) -> None:
        with self.lock:
            actor = self._actors.pop(seat.worker, None)
            self._kinds.pop(seat.worker, None)
            self._later.pop(seat.worker, None)
        if actor is not None:
            self._dismiss(actor)

    # -- work

    def run(self, worker: int, work: Work) -> None:
        for kind, part in self._by_kind(work):
            with self.lock:
                seat = self.seats.get(worker)
                if seat is None:
                    return
                waits = self._later.setdefault(worker, [])
                if waits or self._kinds.get(worker) != kind:
                    waits.append((kind, part))
                    continue
            super().run(worker, part)
        self._next_kind(worker)

    def _by_kind(self, work: Work) -> list[tuple[Resources, Work]]:
        """Runs of calls that need the same."""
        parts: list[tuple[Resources, list[Order]]] = []
        for order in work.orders:
            kind = tuple({**dict(self._resources), **dict(order.resources)}.items())
            kind = tuple((name, value) for name, value in kind if value or name == "num_cpus")
            if not parts or parts[-1][0] != kind:
                parts.append((kind, []))
            parts[-1][1].append(order)
        return [(kind, Work(orders, work.functions)) for kind, orders in parts]

    def _next_kind(self, worker: int) -> None:
        """If its actor has nothing left, and there is work for another one: have that."""
        with self.lock:
            seat = self.seats.get(worker)
            waits = self._later.get(worker)
            if seat is None or not waits or seat.sent or seat.outbox or seat.talking:
                return
            kind, work = waits.pop(0)
            old = self._actors.get(worker) if self._kinds.get(worker) != kind else None
        if old is not None:
            self._dismiss(old)
            self._hire(seat, kind)
        super().run(worker, work)

    def answered(self, seat: Seat, reply: station.Reply) -> None:
        super().answered(seat, reply)
        self._next_kind(seat.worker)

    def recall(self, worker: int, seqs: Sequence[int], running: bool) -> None:
        wanted = set(seqs)
        back: list[int] = []
        with self.lock:
            for _, work in self._later.get(worker, ()):
                back += [order.seq for order in work.orders if order.seq in wanted]
                work.orders = [order for order in work.orders if order.seq not in wanted]
        if back:
            self.host.given_back(worker, back)
        super().recall(worker, seqs, running)

    # -- conversations

    def carry(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        for number, blob in large.items():
            if number not in self._put:
                self._put[number] = ray.put(blob)
        actor = seat.place
        numbers = list(large)
        try:
            talk = actor.exchange.remote(request, numbers, *[self._put[number] for number in numbers])
        except Exception as error:
            self._over(seat, actor, error)
            return
        self._when_done(talk, lambda value, error: self._over(seat, actor, error, value))

    @staticmethod
    def _when_done(reference: Any, then: Callable[[Any, BaseException | None], None]) -> None:
        def done(future: Any) -> None:
            error = future.exception()
            then(None if error is not None else future.result(), error)

        reference.future().add_done_callback(done)

    def _over(self, seat: Seat, actor: Any, error: BaseException | None, reply: Any = None) -> None:
        if error is None:
            self.answered(seat, reply)
        elif isinstance(error, RayActorError):
            self.failed(seat, None, "")
        elif not ray.is_initialized():
            trouble = ClusterLost("this program is not connected to the Ray cluster any more")
            trouble.__cause__ = error
            self.fail_all(trouble)
        else:
            self.failed(seat, not_installed("Ray", str(actor), error), "")

    def tell(self, seat: Seat, what: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(Exception):  # it is gone: so is what was to be told
            seat.place.aside.remote(what, *args)

    def close(self) -> None:
        if not self.begin_close():
            return
        with self.lock:
            actors = list(self._actors.values())
            self._actors.clear()
        for actor in actors:
            self._dismiss(actor)
        self._put.clear()
        if self._ours:
            with contextlib.suppress(Exception):
                ray.shutdown()


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
