"""Shared lists.

Records of an object, after its prefix:

    l + place    an item: pickle, contained objects (see `values.py`)

Places follow each other without gaps; the header has the first one (a) and how many there are.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from operator import index as as_index
from typing import Any, SupportsIndex

from treadle.shared.lifetimes import Hold, contained, with_extent
from treadle.shared.proxy import BaseProxy, by_index
from treadle.shared.space import Space
from treadle.shared.store import listed
from treadle.shared.values import NONE, dump, load

__all__ = ["ListProxy"]

_PLACE = struct.Struct(">Q")
_MIDDLE = 1 << 63  # the place of a list's first item at first: it may grow on both sides
Dumped = tuple[bytes, bytes, list[int]]


class ListProxy(BaseProxy):
    """A list that several processes share; see `list` for its methods, and `BaseProxy` for what holds for all proxies.

    Items are copied in and out; a proxy as an item goes on being shared.  Reading, changing, adding and removing an
    item at either end takes the same time however long the list is.
    """

    _kind = b"l"
    _typeid = "list"
    _exposed_ = (
        "__add__", "__contains__", "__delitem__", "__getitem__", "__imul__", "__len__", "__mul__", "__reversed__",
        "__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
        "reverse", "sort",
    )  # fmt: skip

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, space: Space, hold: Hold) -> None:
        super().__init__(space, hold)
        self._items = self._prefix + b"l"

    # -- within a transaction ---------------------------------------------------------------------------------------

    def _where(self, place: int) -> bytes:
        return self._items + _PLACE.pack(_MIDDLE + place)

    def _raw(self, txn: Any, i: int) -> bytes:
        _, length, first, _ = self._extent(txn)
        if i < 0:
            i += length
        if not 0 <= i < length:
            raise IndexError("list index out of range")
        return txn.get(self._where(first + i))  # type: ignore[no-any-return]

    def _fetch(self, txn: Any, i: int) -> list[bytes]:
        return [self._raw(txn, i)]

    def _fetch_all(self, txn: Any) -> list[bytes]:
        self._read_header(txn)
        return [raw for _, raw in listed(txn, self._items)]

    def _fetch_slice(self, txn: Any, which: slice) -> list[bytes]:
        header = self._read_header(txn)
        where = range(*which.indices(header.length))
        if len(where) * 4 > header.length:
            raws = [raw for _, raw in listed(txn, self._items)]
            return raws[which]
        return [txn.get(self._where(header.a + i)) for i in where]

    def _refer(self, txn: Any, dumped: list[Dumped]) -> list[bytes]:
        raws = []
        for data, tail, numbers in dumped:
            for number in numbers:
                self._space.life.refer(txn, number)
            raws.append(data + tail)
        return raws

    def _unrefer(self, txn: Any, raws: list[bytes]) -> None:
        for raw in raws:
            if not raw.endswith(NONE):
                for number in contained(raw):
                    self._space.life.unrefer(txn, number)

    def _splice(self, txn: Any, start: int, stop: int, new: list[bytes]) -> list[bytes]:
        """Put `new` in place of the items [start, stop), and return those.  The shorter side moves."""
        header = self._read_header(txn)
        first, length = header.a, header.length
        old = [txn.get(self._where(first + i)) for i in range(start, stop)]
        grow = len(new) - len(old)
        if grow and start < length - stop:
            moved = [txn.get(self._where(first + i)) for i in range(start)]
            first -= grow
            self._lay(txn, first, moved)
            for place in range(header.a, first):
                txn.delete(self._where(place))
        elif grow:
            moved = [txn.get(self._where(first + i)) for i in range(stop, length)]
            self._lay(txn, first + stop + grow, moved)
            for place in range(first + length + grow, first + length):
                txn.delete(self._where(place))
        self._lay(txn, first + start, new)
        if grow:
            self._write_header(txn, header._replace(length=length + grow, a=first))
        return old

    def _lay(self, txn: Any, place: int, raws: list[bytes]) -> None:
        for raw in raws:
            txn.put(self._where(place), raw)
            place += 1

    def _replace_all(self, txn: Any, raws: list[bytes]) -> None:
        """All items anew.  Does not count what they contain."""
        header = self._read_header(txn)
        self._lay(txn, header.a, raws)
        for place in range(header.a + len(raws), header.a + header.length):
            txn.delete(self._where(place))
        self._write_header(txn, header._replace(length=len(raws)))

    def _append(self, txn: Any, dumped: list[Dumped]) -> None:
        head, length, first, _ = self._extent(txn)
        self._lay(txn, first + length, self._refer(txn, dumped))
        txn.put(self._head, with_extent(head, length + len(dumped), first, 0))

    @staticmethod
    def _dumped(space: Space, values: Iterable[Any]) -> list[Dumped]:
        return [dump(space, value) for value in _list(values)]

    # -- reading ----------------------------------------------------------------------------------------------------

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return self._space.values(self._fetch_slice, which)
        i = as_index(which)
        raw = self._store.read(self._raw, i)
        return load(raw) if raw.endswith(NONE) else self._space.values(self._fetch, i)[0]

    def __len__(self) -> int:
        return self._length()

    __iter__ = by_index

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self.copy())

    def copy(self) -> list[Any]:
        """A plain list of this process, with copies of the items of one moment.  Proxies in it stay shared."""
        return self._space.values(self._fetch_all)

    _getvalue = copy

    def __contains__(self, value: Any) -> bool:
        return value in self.copy()

    def count(self, value: Any, /) -> int:
        """How many items are equal to `value`.  All items are copied here and compared here."""
        return self.copy().count(value)

    def index(self, value: Any, *bounds: SupportsIndex) -> int:
        """The place of the first item that is equal to `value`, within ``[start, stop)`` if these are given.

        All items are copied here and compared here.  ValueError if there is none.  Another process may have moved it
        since: take a `transaction` around this and what relies on it.
        """
        return self.copy().index(value, *bounds)

    def __add__(self, other: Any) -> Any:
        return self.copy() + _plain(other)

    def __radd__(self, other: Any) -> Any:
        return _plain(other) + self.copy()

    def __mul__(self, times: SupportsIndex) -> Any:
        return self.copy() * times

    __rmul__ = __mul__

    # -- changing ---------------------------------------------------------------------------------------------------

    def append(self, value: Any, /) -> None:
        """Add an item at the end, in the same time however long the list is.  Raises what pickling it raises."""
        self._store.write(self._append, [dump(self._space, value)])

    def extend(self, values: Iterable[Any], /) -> None:
        """Add all items at the end, in one step: nobody else's come in between.

        The iterable is read to its end before, and nothing is added if it raises or an item can't be pickled.
        """
        self._store.write(self._append, self._dumped(self._space, values))

    def __iadd__(self, values: Iterable[Any]) -> ListProxy:  # type: ignore[misc]
        self.extend(values)
        return self

    def __setitem__(self, which: Any, value: Any) -> None:
        if isinstance(which, slice):
            self._set_slice(which, self._dumped(self._space, value))
            return

        def op(txn: Any) -> None:
            _, length, first, _ = self._extent(txn)
            at = i + length if i < 0 else i
            if not 0 <= at < length:
                raise IndexError("list assignment index out of range")
            where = self._where(first + at)
            old = txn.get(where)
            txn.put(where, self._refer(txn, dumped)[0])
            self._unrefer(txn, [old])

        i = as_index(which)
        dumped = [dump(self._space, value)]
        self._store.write(op)

    def _set_slice(self, which: slice, dumped: list[Dumped]) -> None:
        def op(txn: Any) -> None:
            header = self._read_header(txn)
            new = self._refer(txn, dumped)
            start, stop, step = which.indices(header.length)
            if step == 1:
                self._unrefer(txn, self._splice(txn, start, max(start, stop), new))
                return
            places = range(start, stop, step)
            if len(places) != len(new):
                raise ValueError(
                    f"attempt to assign sequence of size {len(new)} to extended slice of size {len(places)}"
                )
            old = []
            for i, raw in zip(places, new, strict=True):
                where = self._where(header.a + i)
                old.append(txn.get(where))
                txn.put(where, raw)
            self._unrefer(txn, old)

        self._store.write(op)

    def __delitem__(self, which: Any) -> None:
        def op(txn: Any) -> None:
            header = self._read_header(txn)
            if not isinstance(which, slice):
                at = self._at(header.length, as_index(which), "list assignment index out of range")
                self._unrefer(txn, self._splice(txn, at, at + 1, []))
                return
            start, stop, step = which.indices(header.length)
            if step == 1:
                self._unrefer(txn, self._splice(txn, start, max(start, stop), []))
                return
            raws = self._fetch_all(txn)
            old = raws[which]
            del raws[which]
            self._replace_all(txn, raws)
            self._unrefer(txn, old)

        self._store.write(op)

    @staticmethod
    def _at(length: int, i: int, message: str) -> int:
        if i < 0:
            i += length
        if not 0 <= i < length:
            raise IndexError(message)
        return i

    def insert(self, i: SupportsIndex, value: Any, /) -> None:
        """Put an item before place `i`, as `list.insert`: places beyond an end mean that end.

        The items of the shorter side move: at either end it is quick, in the middle of a long list it is not.
        """

        def op(txn: Any) -> None:
            length = self._read_header(txn).length
            at = max(0, where + length) if where < 0 else min(where, length)
            self._splice(txn, at, at, self._refer(txn, dumped))

        where = as_index(i)
        dumped = [dump(self._space, value)]
        self._store.write(op)

    def pop(self, i: SupportsIndex = -1, /) -> Any:
        """Remove an item and return it, in one step: of several processes one gets it.  IndexError if there is none.

        At either end it takes the same time however long the list is; elsewhere the items of the shorter side move.
        """

        def op(txn: Any) -> tuple[list[bytes], list[Hold]]:
            head, length, first, _ = self._extent(txn)
            if not length:
                raise IndexError("pop from empty list")
            at = self._at(length, where, "pop index out of range")
            place = self._where(first + at)
            raw = txn.get(place)
            if raw.endswith(NONE) and at in (0, length - 1):  # by far the most frequent case
                txn.delete(place)
                txn.put(self._head, with_extent(head, length - 1, first + (at == 0), 0))
                return [raw], []
            holds = self._space.holding(txn, [raw])
            raws = self._splice(txn, at, at + 1, [])
            self._unrefer(txn, raws)
            return raws, holds

        where = as_index(i)
        raws, holds = self._store.write(op)
        return self._space.loaded(raws, holds)[0] if holds else load(raws[0])

    def remove(self, value: Any, /) -> None:
        """Remove the first item that is equal to `value`, in one step.  ValueError if there is none.

        All items are copied here and compared here, while others wait.
        """
        with self._store.transaction():
            try:
                i = self.copy().index(value)
            except ValueError:
                raise ValueError("list.remove(x): x not in list") from None
            del self[i]

    def clear(self) -> None:
        """Remove all items, in one step."""

        def op(txn: Any) -> None:
            raws = self._fetch_all(txn)
            self._replace_all(txn, [])
            self._unrefer(txn, raws)

        self._store.write(op)

    def reverse(self) -> None:
        """Turn the order around in place, in one step."""
        self._store.write(lambda txn: self._replace_all(txn, self._fetch_all(txn)[::-1]))

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place, stable, as `list.sort`, in one step.

        The items are loaded here and `key` and ``<`` are called here, while others wait; if one of them raises, nothing
        has changed.
        """
        with self._store.transaction():
            # Sorted by the loaded items, but it is the records that move: nothing is pickled again.
            raws = self._store.read(self._fetch_all)
            items = self.copy()
            keys = items if key is None else [key(item) for item in items]
            order = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
            self._store.write(self._replace_all, [raws[i] for i in order])

    def __imul__(self, times: SupportsIndex) -> ListProxy:
        def op(txn: Any) -> None:
            raws = self._fetch_all(txn)
            for raw in raws * max(0, count - 1):
                for number in contained(raw):
                    self._space.life.refer(txn, number)
            self._replace_all(txn, raws * count)
            if count <= 0:
                self._unrefer(txn, raws)

        count = as_index(times)
        self._store.write(op)
        return self

    def update_value(self, i: SupportsIndex, fn: Callable[[Any], Any]) -> Any:
        """`self[i] = fn(self[i])` in one step, and that value.  See `DictProxy.update_value`."""
        with self._store.transaction():
            value = fn(self[i])
            self[i] = value
        return value


def _plain(other: Any) -> Any:
    return other.copy() if isinstance(other, ListProxy) else other


def _list(values: Iterable[Any]) -> list[Any]:
    return values.copy() if isinstance(values, ListProxy) else list(values)


MutableSequence.register(ListProxy)
