"""Dask: each worker of the pool is one thread of a Dask worker; an exchange with its station is one Dask future.

Dask sees the slot in use as long as the station has calls, and never more than one future a slot, however many calls
there are.  A future is tied to its Dask worker, so that Dask does not run it again elsewhere when that one dies: what
becomes of the calls the pool decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

import dask
import distributed
from distributed.utils import LoopRunner, silence_logging_cmgr

from ...errors import ClusterLost, TreadleError
from .. import station
from ..engines.guest import Host
from ..options import START_SECONDS, PoolOptions
from .base import ClusterEngine, Seat, not_installed

CONNECT_SECONDS = 10.0  # to wait for a scheduler, at most
CLOSE_SECONDS = 5.0  # to wait for anything at the end
# What a call is given for the first time travels with it, however large it is: a user can't do anything about that.
NO_ADVICE = {"distributed.admin.large-graph-warning-threshold": 1 << 60}


class _Client(distributed.Client):  # type: ignore[misc]  # it is Any where Dask's types are not looked at
    """One for which a scheduler that is gone stays gone: the pool says so, and Dask's log need not."""

    when_lost: Callable[[BaseException], None] | None = None

    async def _reconnect(self) -> None:
        """Called by Dask when the connection has ended."""
        for state in self.futures.values():
            state.cancel()
        self.futures.clear()
        self.scheduler_comm = None  # by this, who has called knows that there is nothing more to read
        if self.when_lost is not None:
            self.when_lost(ConnectionResetError("the connection has ended"))


class DaskEngine(ClusterEngine):
    """``Pool(engine="dask", address=...)`` is ``Pool(engine=DaskEngine(...))``.

    `address` is that of a scheduler (``"tcp://host:8786"``), a `distributed.Client`, or None: the cluster of the
    program's default client or of Dask's configuration, else one of its own in this process, with as many workers as
    the pool.  `connect_timeout` is in seconds.  The workers of the cluster need treadle, the same version of Python,
    and the modules that the functions come from.

    Raises `ClusterLost` where there is no scheduler at that address.
    """

    name = "dask"

    def __init__(self, address: Any = None, *, connect_timeout: float = CONNECT_SECONDS) -> None:
        super().__init__()
        if address is not None and not isinstance(address, (str, distributed.Client)):
            raise TypeError(f"the address of Dask must be a text, a Client or None, not {address!r}")
        self._address = address
        self._connect_timeout = connect_timeout
        self._client: distributed.Client | None = None
        self._at = ""  # the scheduler's address
        self._cluster: Any = None  # our own, and
        self._folder: Any = None  # its folder
        self._runner: Any = None  # of the client's loop: a client that finds no scheduler would leave its thread behind
        self._free: dict[str, int] = {}  # Dask workers, and threads of theirs that no seat has
        self._total = 0
        self._waiting: deque[Seat] = deque()  # for a place
        self._patience = START_SECONDS
        self._numbers = itertools.count(1)
        self._scattered: dict[int, Any] = {}  # what is large, as Dask futures; of the client's loop alone
        self._scattering = asyncio.Lock()  # held while _scattered changes: two stations may ask for the same at once
        self._talks: dict[Seat, asyncio.Task[None]] = {}  # of the client's loop alone

    def open(self, host: Host, options: PoolOptions, workers: int | None) -> None:
        super().open(host, options, workers)
        self._patience = options.start_timeout or float("inf")
        address, security = self._address or ambient(), None
        try:
            if address is None:
                from ..cpus import available_cpus

                self._folder = tempfile.TemporaryDirectory(prefix="treadle-dask-")
                # In this process: the calls themselves run in processes of the stations' anyway.
                with dask.config.set({"temporary-directory": self._folder.name}):
                    self._cluster = distributed.LocalCluster(
                        n_workers=workers or available_cpus(), threads_per_worker=1, processes=False,
                        dashboard_address="127.0.0.1:0", memory_limit=0, local_directory=self._folder.name,
                    )  # fmt: skip
                address = self._cluster
            elif isinstance(address, distributed.Client):
                # One of our own to the same scheduler: that one's subscriptions are its user's.
                security = address.security
                address = address.scheduler.address
            self._runner = LoopRunner()
            self._runner.start()
            if isinstance(address, str):
                self._knock(address, security)
            self._client = _Client(
                address,
                security=security,
                timeout=self._connect_timeout,
                set_as_default=False,
                name="treadle",
                loop=self._runner.loop,
            )
            self._at = self._client.scheduler.address
            self._client.when_lost = self._scheduler_lost
            self._client.subscribe_topic("all", self._event)
            self._client.sync(self._look_around)
            self._post(self._beat)
        except (OSError, TimeoutError, distributed.comm.CommClosedError) as error:
            self.close()
            raise ClusterLost(f"no Dask scheduler answers at {address}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _knock(self, address: str, security: Any) -> None:
        """Is there a scheduler?  A client that finds none leaves its thread behind."""

        async def knock() -> None:
            arguments = security.get_connection_args("client") if security is not None else {}
            comm = await distributed.comm.connect(address, timeout=self._connect_timeout, **arguments)
            await comm.close()

        asyncio.run_coroutine_threadsafe(knock(), self._runner.loop.asyncio_loop).result()

    def workers(self) -> int:
        return self._total

    def stays(self) -> bool:
        if not super().stays() or self._address is not None:
            return super().stays()
        address = ambient()
        if isinstance(address, distributed.Client):
            address = address.scheduler.address
        return address == (None if self._cluster is not None else self._at)

    # -- places

    async def _look_around(self) -> None:
        """Which workers are there?"""
        assert self._client is not None
        identity = await self._client.scheduler.identity(n_workers=-1)
        found = {address: worker["nthreads"] for address, worker in identity["workers"].items()}
        gone = [address for address in self._free if address not in found]
        for address in gone:
            self._remove(address)
        with self.lock:
            before = self._total
            for address, threads in found.items():
                if address not in self._free:
                    self._free[address] = threads
            self._total = sum(found.values())
            grown = self._total > before
        if grown and before:
            self.host.crew(self._total)
        self._place()

    def _event(self, event: Any) -> None:
        """Something has happened on the cluster.  In the client's loop."""
        message = event[1] if isinstance(event, tuple) else event
        action = message.get("action") if isinstance(message, dict) else None
        if action == "remove-worker":
            self._remove(message["worker"])
        elif action == "add-worker" and not self.closed:
            assert self._client is not None
            self._client.loop.add_callback(self._look_around)

    def _remove(self, address: str) -> None:
        """A Dask worker is gone, and what it had.  In the client's loop."""
        with self.lock:
            self._free.pop(address, None)
            seats = [seat for seat in self.seats.values() if seat.place == address]
        for seat in seats:
            talk = self._talks.get(seat)
            if talk is not None:
                talk.cancel()
            self.failed(seat, None, address)

    def start(self, worker: int) -> None:
        seat = Seat(worker)
        with self.lock:
            lost = self.lost
            if lost is None:
                self.seats[worker] = seat
                self._waiting.append(seat)
        if lost is not None:
            self.host.ended(worker, error=lost)
            return
        if self._patience != float("inf"):
            self._post(self._expect, seat)
        self._place()

    def _expect(self, seat: Seat) -> None:
        asyncio.get_running_loop().call_later(self._patience, self._late, seat)

    def _late(self, seat: Seat) -> None:
        with self.lock:
            late = seat.place is None and self.seats.get(seat.worker) is seat
            if late:
                self._waiting.remove(seat)
        if late:
            where = self._address if isinstance(self._address, str) else "of this program"
            self.give_up(
                seat, ClusterLost(f"the Dask cluster {where} had no worker with a free thread for {self._patience:g} s")
            )

    def _place(self) -> None:
        """Give places to seats that wait for one."""
        while True:
            with self.lock:
                while self._waiting and self.seats.get(self._waiting[0].worker) is not self._waiting[0]:
                    self._waiting.popleft()  # it was given up meanwhile
                address = max(self._free, key=lambda each: self._free[each], default=None)
                if not self._waiting or address is None or self._free[address] < 1:
                    return
                self._free[address] -= 1
                seat = self._waiting.popleft()
                seat.place = address
            self.host.ready(seat.worker)

    def leave(self, seat: Seat) -> None:
        with self.lock:
            if seat.place in self._free:
                self._free[seat.place] += 1
        self._place()

    # -- conversations

    def _post(self, what: Callable[..., Any], *args: Any) -> None:
        """Have it called in the client's loop."""
        client = self._client
        if client is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                client.loop.add_callback(what, *args)

    def carry(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        self._post(self._begin, seat, request, large)

    def _begin(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        talk = asyncio.get_running_loop().create_task(self._talk(seat, request, large))
        self._talks[seat] = talk
        talk.add_done_callback(lambda _: self._talks.pop(seat, None) if self._talks.get(seat) is talk else None)

    async def _talk(self, seat: Seat, request: station.Request, large: dict[int, bytes]) -> None:
        client = self._client
        assert client is not None
        try:
            while True:
                there = await self._put(large)
                with dask.config.set(NO_ADVICE):
                    future = client.submit(
                        _exchange, request, there, workers=[seat.place], allow_other_workers=False, pure=False,
                        retries=0, key=f"treadle-{self.token[:8]}-{next(self._numbers)}",
                    )  # fmt: skip
                try:
                    reply = await future._result()
                    break
                except asyncio.CancelledError:
                    # By Dask, which has lost what was put to it, with the only worker that had it: it has not begun.
                    if client.status != "running" or all(each.status == "finished" for each in there.values()):
                        raise
        except asyncio.CancelledError as error:
            # Not this conversation (its place is gone), but the future: by Dask, when it has lost its scheduler.
            if type(error) is not asyncio.CancelledError:
                self._scheduler_lost(error)
        except TreadleError as error:
            self.failed(seat, error, seat.place)
        except Exception as error:
            if client.status != "running":
                self._scheduler_lost(error)
            else:
                self.failed(seat, not_installed("Dask", seat.place, error), seat.place)
        else:
            self.answered(seat, reply)

    def _scheduler_lost(self, error: BaseException) -> None:
        if not self.closed:
            trouble = ClusterLost(f"the Dask scheduler at {self._at} is gone")
            trouble.__cause__ = error
            self.fail_all(trouble)

    async def _put(self, large: dict[int, bytes]) -> dict[int, Any]:
        """Have the cluster keep these; only what it does not keep already travels."""
        assert self._client is not None
        if not large:
            return {}
        async with self._scattering:
            for number, blob in large.items():
                kept = self._scattered.pop(number, None)
                if kept is None or kept.status != "finished":
                    kept = await self._client._scatter(blob, hash=False)
                self._scattered[number] = kept
            there = {number: self._scattered[number] for number in large}
            while len(self._scattered) > max(self.kept_on_cluster, len(large)):
                del self._scattered[next(iter(self._scattered))]
        return there

    def tell(self, seat: Seat, what: Callable[..., None], *args: Any) -> None:
        self._post(self._tell, [seat.place], what, *args)

    async def _tell(self, places: list[str], what: Callable[..., None], *args: Any) -> None:
        assert self._client is not None
        with contextlib.suppress(Exception):  # it is gone: so is what was to be told
            await self._client._run(_aside, what, *args, workers=places, on_error="ignore")

    async def _beat(self) -> None:
        """Tell the stations now and then that we are there."""
        while not self.closed and self.lost is None:
            await asyncio.sleep(station.BEAT_SECONDS)
            with self.lock:
                places = list({seat.place for seat in self.seats.values() if seat.opened})
            if places:
                await self._tell(places, station.keep, self.token)

    def close(self) -> None:
        with self.lock:
            places = list({seat.place for seat in self.seats.values() if seat.opened and seat.place is not None})
        if not self.begin_close():
            return
        with contextlib.ExitStack() as quiet:
            if self._cluster is not None:  # nobody's but ours: what its parts say of each other's going is no news
                quiet.enter_context(silence_logging_cmgr(logging.CRITICAL))
            self._close_all(places)

    def _close_all(self, places: list[str]) -> None:
        client, cluster = self._client, self._cluster
        if client is not None:
            with contextlib.suppress(Exception):
                if self.lost is None:
                    client.sync(self._end, places, callback_timeout=CLOSE_SECONDS)
            with contextlib.suppress(Exception):
                client.close(timeout=CLOSE_SECONDS if self.lost is None else 0.5)
        if self._runner is not None:
            with contextlib.suppress(Exception):
                self._runner.stop(timeout=CLOSE_SECONDS)
        station.close(self.token)  # those that are in this process, and were not told by a scheduler that is gone
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=CLOSE_SECONDS)
        if self._folder is not None:
            self._folder.cleanup()

    async def _end(self, places: list[str]) -> None:
        for talk in list(self._talks.values()):
            talk.cancel()
        if places:
            await self._tell(places, station.close, self.token)
        assert self._client is not None
        # Else the scheduler tells this client of its own going, and complains that it can't.
        self._client.unsubscribe_topic("all")


def ambient() -> distributed.Client | str | None:
    """What the program has to do with Dask already: its default client, or the scheduler that is configured."""
    with contextlib.suppress(ValueError):  # there is none
        client: distributed.Client = distributed.default_client()
        return client
    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _exchange(request: station.Request, large: dict[int, bytes]) -> station.Reply:
    """In a thread of a Dask worker."""
    if large:
        request = request._replace(functions={**request.functions, **large})
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        """Dask forgets what it computes for a client that is gone."""
        task = worker.state.tasks.get(key)
        return task is not None and task.state not in ("cancelled", "forgotten", "released")

    return station.exchange(request, wanted)


async def _aside(what: Callable[..., None], *args: Any) -> None:
    """In the event loop of a Dask worker, which is not to be kept waiting."""
    await asyncio.get_running_loop().run_in_executor(None, what, *args)
