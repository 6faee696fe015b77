"""Which objects of a store live, and who makes them live.

An object lives as long as somebody refers to it: a process that has a proxy of it (a *hold*), another object that
contains it, a name, or a pickled proxy on its way (a *ticket*).  All of that is in the store, so that it is right after
a kill too: what a dead process held is taken back by whoever looks next.
"""

from __future__ import annotations

import os
import struct
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from treadle._native import _core
from treadle.shared.store import Store, prefixed

__all__ = [
    "HEADER", "TICKET_SECONDS", "Header", "Hold", "Lifetimes", "extent", "gone", "read_header", "with_extent",
    "write_header",
]  # fmt: skip

TICKET_SECONDS = 600.0  # how long a pickled proxy keeps its object alive if nobody loads it
BIRTH_SECONDS = 60.0  # how long a forked child may take to say that it lives
SWEEP_EVERY = 256  # new objects

# The records of a store, by their first byte; numbers are 8 bytes, big endian.
COUNTER = b"!"  # the last number given to an object
PROCESS = b"P"  # + process: pid, start time, until when it may be unborn, its pid namespace and boot
HOLD = b"H"  # + process + object: that process has a proxy of it
TICKET = b"T"  # + random: object, until when
NAME = b"N"  # + name: object
DATA = b"D"  # + object + b"\0": its header;  + anything else: its contents

VALUES = (b"k", b"l", b"v")  # what follows the object's number in the keys of those records that are values

_NUMBER = struct.Struct(">Q")
_PROCESS = struct.Struct(">QQd16s")
_TICKET = struct.Struct(">Qd")

HEADER = struct.Struct(">cqqqq")


class Header(NamedTuple):
    """What every object has."""

    kind: bytes
    refs: int  # Invariant: the number of holds, tickets, names and containing values
    length: int
    a: int  # dict, set: the next place in the order;  list: the place of the first item
    b: int  # dict, set: how many keys are found by == only


# The part that changes most, without the rest: length, a, b.
_EXTENT = struct.Struct(">9xqqq")
_EXTENT_PACK = struct.Struct(">qqq").pack
extent = _EXTENT.unpack_from  # (length, a, b) of a header's record


def with_extent(raw: bytes, length: int, a: int, b: int) -> bytes:
    """The header's record, with another extent."""
    return raw[:9] + _EXTENT_PACK(length, a, b)


def gone() -> ReferenceError:
    """There is no header: what to raise."""
    return ReferenceError("the shared object does not exist any more")


def header_key(number: int) -> bytes:
    return DATA + _NUMBER.pack(number) + b"\0"


def read_header(txn: Any, key: bytes) -> Header:
    """ReferenceError if there is no such object."""
    raw = txn.get(key)
    if raw is None:
        raise gone()
    return Header(*HEADER.unpack_from(raw))


def write_header(txn: Any, key: bytes, header: Header) -> None:
    txn.put(key, HEADER.pack(*header))


class Hold:
    """This process's share in an object: all of its proxies refer to the same one."""

    __slots__ = ("__weakref__", "index", "life", "number")

    def __init__(self, life: Lifetimes, number: int) -> None:
        self.life = life
        self.number = number
        self.index: Any = None  # where this process finds the keys of a dict (see `mapping.py`); under the store's lock


class _HoldRef(weakref.ref[Hold]):
    """Knows what the dead one was for."""

    __slots__ = ("life", "number")
    life: weakref.ref[Lifetimes]
    number: int


def _dropped(ref: weakref.ref[Hold]) -> None:
    # This may run anywhere, even inside of an operation of this thread: so it takes no lock that it has to wait for;
    # and at the end of the program, when nothing is left but builtins, and nothing has to be done any more.
    try:
        life = ref.life()  # type: ignore[attr-defined]
        if life is not None:
            life.dropped.append(ref.number)  # type: ignore[attr-defined]
            life.drain()
    except Exception:
        pass


class Lifetimes:
    """The holds of this process in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pid = os.getpid()
        # Invariant: every living Hold of this store is in here.  Changed under the store's lock only.
        self.holds: dict[int, _HoldRef] = {}
        self.dropped: deque[int] = store.dropped
        self.process = 0  # the number of this process's record
        store.drain = weakref.WeakMethod(self._drain)
        store.restore = weakref.WeakMethod(self.restore)
        store.write(self._join)

    # -- processes --------------------------------------------------------------------------------------------------

    def _join(self, txn: Any) -> None:
        self.process = _random()
        txn.put(PROCESS + _NUMBER.pack(self.process), _describe(os.getpid(), 0.0))
        self.sweep(txn)

    def sweep(self, txn: Any) -> None:
        """Take back what dead processes held, and tickets that nobody has used."""
        dead = []
        now = time.monotonic()
        for key, raw in prefixed(txn, PROCESS):
            (process,) = _NUMBER.unpack_from(key, 1)
            if process != self.process and not _lives(raw, now):
                dead.append(process)
        for process in dead:
            self._forget(txn, process)
        late = []
        for key, raw in prefixed(txn, TICKET):
            _, until = _TICKET.unpack(raw)
            if not now <= until <= now + TICKET_SECONDS:
                late.append(key)
        for key in late:
            self._use_ticket(txn, key[1:])

    def leave(self, txn: Any) -> None:
        """This process holds nothing any more."""
        self._forget(txn, self.process)

    def _forget(self, txn: Any, process: int) -> None:
        prefix = HOLD + _NUMBER.pack(process)
        for key in [key for key, _ in prefixed(txn, prefix)]:
            txn.delete(key)
            self.unrefer(txn, _NUMBER.unpack_from(key, 9)[0])
        txn.delete(PROCESS + _NUMBER.pack(process))

    # -- objects ----------------------------------------------------------------------------------------------------

    def create(self, txn: Any, kind: bytes) -> int:
        """A new object, with nobody who refers to it yet."""
        objects = int.from_bytes(txn.get(COUNTER) or b"", "big") + 1
        txn.put(COUNTER, _NUMBER.pack(objects))
        write_header(txn, header_key(objects), Header(kind, 0, 0, 0, 0))
        if objects % SWEEP_EVERY == 0:
            self.sweep(txn)
        return objects

    def refer(self, txn: Any, number: int) -> None:
        """One more refers to it."""
        key = header_key(number)
        header = read_header(txn, key)
        write_header(txn, key, header._replace(refs=header.refs + 1))

    def unrefer(self, txn: Any, number: int) -> None:
        """One less; the last one frees it, and what only it contains."""
        todo = [number]
        while todo:
            number = todo.pop()
            key = header_key(number)
            raw = txn.get(key)
            if raw is None:
                continue
            header = Header(*HEADER.unpack_from(raw))
            if header.refs > 1:
                write_header(txn, key, header._replace(refs=header.refs - 1))
                continue
            records = list(prefixed(txn, key[:-1]))
            for name, value in records:
                if name[9:10] in VALUES:
                    todo.extend(contained(value))
                txn.delete(name)

    def objects(self, txn: Any) -> list[tuple[int, Header]]:
        """All of them."""
        found = []
        cursor = txn.cursor()
        at = cursor.set_range(DATA)
        while at and cursor.key()[:1] == DATA:
            (number,) = _NUMBER.unpack_from(cursor.key(), 1)
            found.append((number, Header(*HEADER.unpack_from(cursor.value()))))
            at = cursor.set_range(header_key(number + 1))
        return found

    # -- holds ------------------------------------------------------------------------------------------------------

    def hold(self, txn: Any, number: int) -> Hold:
        """This process's share in an object, for a new proxy.  ReferenceError if it does not exist (any more)."""
        key = HOLD + _NUMBER.pack(self.process) + _NUMBER.pack(number)
        # Asked even if there is a Hold: the transaction in which that was made may have been taken back.
        if txn.get(key) is None:
            self.refer(txn, number)
            txn.put(key, b"")
        ref = self.holds.get(number)
        hold = None if ref is None else ref()
        if hold is None:
            hold = Hold(self, number)
            ref = self.holds[number] = _HoldRef(hold, _dropped)
            ref.life, ref.number = weakref.ref(self), number
        return hold

    def drain(self) -> None:
        """Give back what was dropped, if nobody is in the store right now; else whoever comes next does."""
        store = self.store
        if store.closed or store.inside() or os.getpid() != self.pid:
            return
        if store.lock.acquire(blocking=False):
            try:
                store.tidy()
            finally:
                store.lock.release()

    def _drain(self, txn: Any) -> None:
        for _ in range(len(self.dropped)):
            number = self.dropped.popleft()
            ref = self.holds.get(number)
            if ref is None or ref() is not None:
                continue  # done already; or somebody has it again
            del self.holds[number]
            key = HOLD + _NUMBER.pack(self.process) + _NUMBER.pack(number)
            if txn.get(key) is not None:
                txn.delete(key)
                self.unrefer(txn, number)

    def _held(self) -> list[int]:
        return [number for number, ref in self.holds.items() if ref() is not None]

    def restore(self, txn: Any) -> None:
        """After a transaction was taken back: what was held in it, and still is, must be held."""
        for number in self._held():
            key = HOLD + _NUMBER.pack(self.process) + _NUMBER.pack(number)
            if txn.get(key) is None and txn.get(header_key(number)) is not None:
                self.refer(txn, number)
                txn.put(key, b"")

    # -- tickets ----------------------------------------------------------------------------------------------------

    def ticket(self, txn: Any, number: int) -> bytes:
        """For a pickled proxy: keeps the object alive until it is loaded, or TICKET_SECONDS have gone."""
        name = os.urandom(12)
        self.refer(txn, number)
        txn.put(TICKET + name, _TICKET.pack(number, time.monotonic() + TICKET_SECONDS))
        return name

    def arrive(self, txn: Any, number: int, ticket: bytes) -> Hold:
        """A pickled proxy was loaded."""
        hold = self.hold(txn, number)
        self._use_ticket(txn, ticket)
        return hold

    def _use_ticket(self, txn: Any, name: bytes) -> None:
        raw = txn.get(TICKET + name)
        if raw is not None:
            txn.delete(TICKET + name)
            self.unrefer(txn, _TICKET.unpack(raw)[0])

    # -- names ------------------------------------------------------------------------------------------------------

    def named(self, txn: Any, name: str) -> int | None:
        raw = txn.get(_name_key(name))
        return None if raw is None else _NUMBER.unpack(raw)[0]

    def name(self, txn: Any, name: str, number: int) -> None:
        txn.put(_name_key(name), _NUMBER.pack(number))
        self.refer(txn, number)

    def unname(self, txn: Any, name: str) -> None:
        number = self.named(txn, name)
        if number is None:
            raise KeyError(name)
        txn.delete(_name_key(name))
        self.unrefer(txn, number)

    def names(self, txn: Any) -> list[str]:
        return [key[1:].decode() for key, _ in prefixed(txn, NAME)]

    # -- forks ------------------------------------------------------------------------------------------------------

    def before_fork(self, txn: Any) -> int:
        """In the parent: a record for the child, that holds what the parent holds."""
        process = _random()
        txn.put(PROCESS + _NUMBER.pack(process), _describe(0, time.monotonic() + BIRTH_SECONDS))
        for number in self._held():
            if txn.get(header_key(number)) is not None:
                self.refer(txn, number)
                txn.put(HOLD + _NUMBER.pack(process) + _NUMBER.pack(number), b"")
        return process

    def forked(self, process: int) -> None:
        """In the child, which has that record; 0: none yet."""
        self.process = process or _random()
        self.pid = os.getpid()

    def born(self, txn: Any) -> None:
        """In the child, in its first transaction."""
        txn.put(PROCESS + _NUMBER.pack(self.process), _describe(os.getpid(), 0.0))
        self.restore(txn)


def contained(value: bytes) -> list[int]:
    """The numbers of the objects that a value contains.  See `values.py` for its layout."""
    count = int.from_bytes(value[-4:], "big")
    return list(struct.unpack_from(f">{count}Q", value, len(value) - 4 - 8 * count)) if count else []


def _name_key(name: str) -> bytes:
    key = NAME + name.encode()
    if not name or len(key) > 500:
        raise ValueError("the name of a shared object has 1 to 499 bytes")
    return key


def _world() -> bytes:
    """In which pids are what they are: this boot, this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")
    return bytes.fromhex(boot.strip())[:8] + Path("/proc/self/ns/pid").stat().st_ino.to_bytes(8, "big")


def _random() -> int:
    # Not counted: a number that was given in a transaction which was then taken back must not be given again.
    return int.from_bytes(os.urandom(8), "big")


def _describe(pid: int, until: float) -> bytes:
    return _PROCESS.pack(pid, _core.process_start(pid) if pid else 0, until, _world())


def _lives(raw: bytes, now: float) -> bool:
    pid, start, until, world = _PROCESS.unpack(raw)
    here = _world()
    if world[:8] != here[:8]:
        return False  # of another boot
    if world != here:
        return True  # of another container: nobody here can tell
    if pid == 0:
        return bool(now <= until)
    return bool(_core.process_start(pid) == start)
