"""What all proxies have in common."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from treadle.handles import reduced
from treadle.shared.lifetimes import DATA, Header, Hold, extent, gone, read_header, write_header
from treadle.shared.memory import Handle
from treadle.shared.space import Space
from treadle.shared.values import context

__all__ = ["BaseProxy", "by_index", "proxy_of", "rebuild"]

_KINDS: dict[bytes, type[BaseProxy]] = {}


class BaseProxy:
    """Stands for an object that several processes share.

    Any number of threads and processes may use it at once: each method is one step, which nobody sees half done, and
    which a kill can't leave half done.  It may be pickled at any time; whoever loads it has the same object.

    Any method raises `ManagerClosed` if the manager was shut down in this process, MemoryError if there is no room for
    more, and OSError where a disk is full or fails: then nothing has changed.  To load a pickled proxy is a
    ReferenceError if its object is gone (nobody has it, and ten minutes have passed), and a FileNotFoundError if no
    living process has the manager's memory.
    """

    _kind: ClassVar[bytes] = b""
    _typeid: ClassVar[str] = ""
    _exposed_: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        if "_kind" in cls.__dict__:
            _KINDS[cls._kind] = cls

    def __init__(self, space: Space, hold: Hold) -> None:
        self._space = space
        self._store = space.store
        self._hold = hold
        self._id = hold.number
        # Invariant: every record of this object starts with _prefix; _head is the first.
        self._prefix = DATA + struct.pack(">Q", hold.number)
        self._head = self._prefix + b"\0"

    @classmethod
    def _create(cls, space: Space, fill: Callable[[Any, int], None] | None, name: str | None) -> Any:
        """A new one; or the one with that name."""

        def op(txn: Any) -> Hold:
            life = space.life
            if name is not None:
                number = life.named(txn, name)
                if number is not None:
                    kind = read_header(txn, DATA + struct.pack(">Q", number) + b"\0").kind
                    if kind != cls._kind:
                        raise TypeError(f"{name!r} is the name of a {_KINDS[kind]._typeid}, not a {cls._typeid}")
                    return life.hold(txn, number)
            number = life.create(txn, cls._kind)
            if name is not None:
                life.name(txn, name, number)
            hold = life.hold(txn, number)
            if fill is not None:
                fill(txn, number)
            return hold

        return cls(space, space.store.write(op))

    # -- the same for all -------------------------------------------------------------------------------------------

    def _read_header(self, txn: Any) -> Header:
        return read_header(txn, self._head)

    def _write_header(self, txn: Any, header: Header) -> None:
        write_header(txn, self._head, header)

    def _extent(self, txn: Any) -> tuple[bytes, int, int, int]:
        """The header's record, and the length, a and b in it: the quick way to the header."""
        raw = txn.get(self._head)
        if raw is None:
            raise gone()
        return raw, *extent(raw)

    def _length(self) -> int:
        raw = self._store.get(self._head)
        if raw is None:
            raise gone()
        length: int = extent(raw)[0]
        return length

    def _getvalue(self) -> Any:
        """A copy of the object as it is now."""
        raise NotImplementedError

    def transaction(self) -> AbstractContextManager[None]:
        """`with d.transaction():` what this thread does to this object, and to others of the same manager, happens at
        once at the end of the block; or not at all, if the block raises or the process is killed.

        Others wait meanwhile, so do nothing long in it.  Inside of another transaction, the inner block alone is taken
        back if it raises.
        """
        return self._store.transaction()

    def _callmethod(self, methodname: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] | None = None) -> Any:
        """The method with that name; '#GETVALUE': a copy of the object."""
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname not in self._exposed_:
            raise AttributeError(f"method {methodname!r} of {self._typeid!r} is not in {self._exposed_!r}")
        return getattr(self, methodname)(*args, **(kwds or {}))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseProxy):
            return self._id == other._id and self._space is other._space
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._id, self._space.key))

    def __reduce__(self) -> tuple[Any, ...]:
        space = self._space
        if context.found is not None:
            if context.space is space:
                context.found.append(self._id)
                return _inner, (self._kind, self._id)
            # It becomes part of another store, which can't say when it goes: it lives as long as its own.
            space.store.write(space.life.refer, self._id)
            ticket = b""
        else:
            ticket = space.store.write(space.life.ticket, self._id)
        args = (type(self), space.handle(), self._id, ticket)
        return (rebuild, args) if space.store.path is not None else reduced("treadle.shared.proxy:rebuild", *args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        with contextlib.suppress(Exception):
            return self._text(self._getvalue())
        return repr(self)[:-1] + "; '__str__()' failed>"

    def _text(self, value: Any) -> str:
        return repr(value)


def by_index(proxy: Any) -> Iterator[Any]:
    """What iterates over a sequence: each item when it is asked for, however many there are by then."""
    i = 0
    while True:
        try:
            item = proxy[i]
        except IndexError:
            return
        yield item
        i += 1


def proxy_of(kind: bytes, space: Space, hold: Hold) -> BaseProxy:
    """A proxy for an object of that kind."""
    return _KINDS[kind](space, hold)


def rebuild(cls: type[BaseProxy], handle: Handle | str, number: int, ticket: bytes) -> BaseProxy:
    """Load a pickled proxy."""
    space = Space.of(handle)
    return cls(space, space.store.write(space.life.arrive, number, ticket))


def _inner(kind: bytes, number: int) -> BaseProxy:
    """Load a proxy that is part of a value; whoever loads the value holds it."""
    space = context.space
    assert space is not None
    hold = space.life.holds[number]()
    assert hold is not None
    return _KINDS[kind](space, hold)
