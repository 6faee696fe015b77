"""The program's connection to a Ray cluster: there is one a process, and all its pools share it.

Ray ends a program whose head is gone for a minute, without a word that Python could catch.  So somebody has to notice
before that: a thread knocks at the head's door, and when nobody has opened for long enough, the pools are told, and the
connection is given up.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from ...errors import ClusterLost, Unsupported

KNOCK_SECONDS = 1.0  # between two knocks
ANSWER_SECONDS = 2.0  # for the answer to one
CLOSE_SECONDS = 10.0  # for Ray to end, at most
SPARE_SECONDS = 10.0  # so long an actor whose pool has closed is kept for another pool


class User(Protocol):
    """An engine that uses the connection."""

    patience: float  # seconds without a head

    def head_lost(self, error: ClusterLost) -> None: ...
    def head_answers(self) -> None: ...
    def room_is_wanted(self, wanted: int) -> None: ...


class Link:
    """The connection.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all fields; held while Ray connects, so that it does so once
        self._users: list[User] = []
        self._ours = False  # did we connect this program?
        self._asked: str | None = None  # with this address
        self._head: tuple[str, int] | None = None  # where to knock; None: nowhere
        self._session: Any = None  # which connection it is: somebody else may end it, and begin another one
        self._ended: threading.Event | None = None  # of the thread that knocks
        # Actors that no pool has, what they were made with, and since when.  Invariant: none while there are no users.
        self._spare: list[tuple[Any, Any, float]] = []

    def join(self, user: User, address: str | None, cpus: int | None, seconds: float) -> None:
        """Be connected to that cluster, with None to any, or to one of our own with so many CPUs.

        Raises `ClusterLost` where none answers within so many seconds, `Unsupported` where the program is connected to
        another one.
        """
        stale: list[User] = []
        with self._lock:
            if self._ended is not None and self._session != session():
                stale = self._forget()
            where = self._head
            if ray.is_initialized():
                self._check(address)
            else:
                self._connect(address, cpus, seconds)
                self._ours, self._asked = True, address
            self._users.append(user)
            if self._ended is None:
                self._head = head_of(address)
                self._session = session()
                self._ended = threading.Event()
                threading.Thread(target=self._watch, args=(self._ended,), name="treadle-ray-head", daemon=True).start()
        for each in stale:
            each.head_lost(ClusterLost(f"this program has left the Ray cluster at {named(where)}"))

    def _forget(self) -> list[User]:
        """With the lock held: somebody has ended the connection.  Those who used it, who are to be told."""
        assert self._ended is not None
        self._ended.set()
        self._ended, self._ours = None, False
        users, self._users, self._spare = self._users, [], []
        return users

    def serves(self, user: User) -> bool:
        """Is the program connected as it was when this one joined?"""
        with self._lock:
            return user in self._users and self._session == session()

    def _check(self, address: str | None) -> None:
        """The program is connected: is that what is wanted?"""
        if address is None or address == "auto" or (self._ours and address == self._asked):
            return
        here = None
        with contextlib.suppress(Exception):
            here = ray.get_runtime_context().gcs_address
        if here is None or resolved(here) != resolved(address):
            raise Unsupported(
                f"this program is connected to the Ray cluster at {here} already, and can't use {address} too",
                "ray",
                "address",
            )

    @staticmethod
    def _connect(address: str | None, cpus: int | None, seconds: float) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
                return
            place = place_of(address)
            if place is not None:  # Ray itself asks for longer than anybody would wait
                socket.create_connection(place, seconds).close()
            ray.init(address=address, **quiet)
        except (RayError, OSError, RuntimeError) as error:
            raise ClusterLost(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
        finally:
            # Ray takes that signal for itself.  What the program has said about it is to stay; where it has said
            # nothing, Ray's way to end it in order is better than none.
            said = on_term not in (None, signal.SIG_DFL)
            if said and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_term)

    def leave(self, user: User) -> None:
        """The user needs it no more; the last one ends it, if it is ours."""
        with self._lock:
            if user not in self._users:
                return
            self._users.remove(user)
            if not self._users:
                spare, self._spare = self._spare, []
                for actor, _, _ in spare if not self._ours else ():  # else they end with the connection
                    dismiss(actor)
                self._end()

    def _end(self) -> None:
        """With the lock held."""
        if self._ended is not None:
            self._ended.set()
        ours = self._ours and self._session == session()  # else it is a later one, and its maker's
        self._ours, self._ended, self._head = False, None, None
        if ours:  # in a thread of its own: without a head it may take its time
            ending = threading.Thread(target=_shut_down, name="treadle-ray-end", daemon=True)
            ending.start()
            ending.join(CLOSE_SECONDS)

    def spare(self, actor: Any, kind: Any) -> bool:
        """Keep it for the next pool; False if there are no other pools.  For the caller, who is a user still."""
        with self._lock:
            if len(self._users) < 2:
                return False
            self._spare.append((actor, kind, time.monotonic()))
            return True

    def find(self, kind: Any) -> Any:
        """A spare actor of that kind, the one that came last; None if there is none."""
        with self._lock:
            for at in range(len(self._spare) - 1, -1, -1):
                if self._spare[at][1] == kind:
                    return self._spare.pop(at)[0]
        return None

    def make_room(self, seconds: float = 0.0) -> None:
        """Dismiss the actors that have been spare for so long."""
        until = time.monotonic() - seconds
        with self._lock:
            old = [actor for actor, _, since in self._spare if since <= until]
            self._spare = [each for each in self._spare if each[2] > until]
        for actor in old:
            dismiss(actor)

    def ask_for_room(self, user: User, wanted: int) -> None:
        """For so many actors of this user's there is none: have the others send away what is idle."""
        with self._lock:
            others = [each for each in self._users if each is not user]
        for each in others:
            each.room_is_wanted(wanted)

    def reachable(self) -> bool:
        """Does the head answer now?"""
        head = self._head
        return head is None or answers(head)

    def _watch(self, ended: threading.Event) -> None:
        """In a thread of its own."""
        last = time.monotonic()
        while not ended.wait(KNOCK_SECONDS):
            if self.reachable():
                last = time.monotonic()
                with self._lock:
                    users = list(self._users) if self._ended is ended else []
                for user in users:
                    user.head_answers()
                self.make_room(SPARE_SECONDS)
                continue
            gone = time.monotonic() - last
            with self._lock:
                if self._ended is not ended:
                    return
                late = [user for user in self._users if gone >= user.patience]
                where = self._head
            for user in late:
                user.head_lost(ClusterLost(f"the head of the Ray cluster, {named(where)}, is gone for {gone:.0f} s"))
                self.leave(user)  # the last one: before Ray ends the program


def dismiss(actor: Any) -> None:
    """End it, whatever it does."""
    with contextlib.suppress(Exception):
        if ray.is_initialized():  # else it has ended; and Ray would start a cluster to end it in
            ray.kill(actor, no_restart=True)


def _shut_down() -> None:
    with contextlib.suppress(Exception):
        ray.shutdown()


def session() -> Any:
    """What tells one connection of this program from another; None: there is none, or it can't be told."""
    with contextlib.suppress(Exception):
        if ray.is_initialized():
            context = ray.get_runtime_context()
            return context.gcs_address, context.get_job_id()
    return None


def place_of(address: str) -> tuple[str, int] | None:
    """Host and port of an address; None where it has none (``"auto"``, ``"local"``)."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


def head_of(address: str | None) -> tuple[str, int] | None:
    """Where the head of the cluster listens that this program is connected to."""
    if address is not None and address.startswith("ray://"):
        return place_of(address)
    with contextlib.suppress(Exception):
        return place_of(ray.get_runtime_context().gcs_address)
    return None


def resolved(address: str) -> Any:
    """The same for all names of one place on this machine or another."""
    place = place_of(address)
    if place is None:
        return address
    with contextlib.suppress(OSError):
        host = socket.gethostbyname(place[0])
        if host.startswith("127."):  # by that name, Ray means an address that others can use too
            host = ray.util.get_node_ip_address()
        return host, place[1]
    return place


def named(head: tuple[str, int] | None) -> str:
    """``host:port``."""
    return "" if head is None else f"{head[0]}:{head[1]}"


def answers(head: tuple[str, int]) -> bool:
    """Does anybody listen there?"""
    with contextlib.suppress(OSError), socket.create_connection(head, ANSWER_SECONDS):
        return True
    return False


link = Link()
