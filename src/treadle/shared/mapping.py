"""Keys in their order, and where they are: what shared dicts, sets and namespaces are made of.

Records of an object, after its prefix:

    k + name     its value: pickle, place in the order, contained objects (see `values.py`)
    o + place    the key (see `index.py`)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from treadle.shared.index import Index, order_record, parse_order
from treadle.shared.keys import GENERIC, encode
from treadle.shared.lifetimes import Header, Hold, contained, with_extent
from treadle.shared.proxy import BaseProxy
from treadle.shared.space import Space
from treadle.shared.store import listed, prefixed
from treadle.shared.values import NONE, SCALARS, dump, dumps, load

__all__ = ["Mapping"]

_PLACE = struct.Struct(">Q")
Dumped = tuple[bytes, bytes, list[int]]


def place_of(raw: bytes) -> bytes:
    """The place in the order, in a value's record."""
    end = len(raw) - 4 - 8 * int.from_bytes(raw[-4:], "big")
    return raw[end - 8 : end]


class Mapping(BaseProxy):
    """The operations within a transaction; the proxies below give them their names."""

    def __init__(self, space: Space, hold: Hold) -> None:
        super().__init__(space, hold)
        self._keys = self._prefix + b"k"
        self._order = self._prefix + b"o"

    # -- within a transaction ---------------------------------------------------------------------------------------

    def _find(self, txn: Any, key: Any, name: bytes | None) -> tuple[bytes, bytes] | None:
        """The (name, record) of a key; `name` is its canonical one, if it has one."""
        if name is not None:
            raw = txn.get(self._keys + name)
            if raw is not None:
                return name, raw
        _, length, _, generic = self._extent(txn)
        if length == 0 or (generic == 0 and name is not None):
            if name is None:
                hash(key)  # raises TypeError, as a dict does
            return None
        hold = self._hold
        if hold.index is None:
            hold.index = Index()
        found = hold.index.find(txn, self._prefix, self._store.epoch, length, key)
        if found is None:
            return None
        raw = txn.get(self._keys + found)
        return None if raw is None else (found, raw)

    def _put(self, txn: Any, key: Any, name: bytes | None, dumped: Dumped) -> None:
        data, tail, numbers = dumped
        if name is not None and tail is NONE:
            where = self._keys + name
            old = txn.get(where)
            if old is not None and old.endswith(NONE):  # by far the most frequent case
                txn.put(where, data + old[-12:])
                return
        found = self._find(txn, key, name)
        for number in numbers:
            self._space.life.refer(txn, number)
        if found is not None:
            where, old = self._keys + found[0], found[1]
            txn.put(where, data + place_of(old) + tail)
            for number in contained(old):
                self._space.life.unrefer(txn, number)
            return
        head, length, next_place, generic = self._extent(txn)
        place = _PLACE.pack(next_place)
        if name is None:
            name = GENERIC + place
            generic += 1
        txn.put(self._order + place, order_record(self._space, key, name))
        txn.put(self._keys + name, data + place + tail)
        txn.put(self._head, with_extent(head, length + 1, next_place + 1, generic))

    def _put_all(self, txn: Any, items: list[tuple[Any, bytes | None, Dumped]]) -> None:
        for key, name, dumped in items:
            self._put(txn, key, name, dumped)

    def _remove(self, txn: Any, name: bytes, raw: bytes) -> None:
        txn.delete(self._keys + name)
        txn.delete(self._order + place_of(raw))
        head, length, place, generic = self._extent(txn)
        txn.put(self._head, with_extent(head, length - 1, place, generic - (name[:1] == GENERIC)))
        if not raw.endswith(NONE):
            for number in contained(raw):
                self._space.life.unrefer(txn, number)

    def _remove_all(self, txn: Any) -> None:
        header = self._read_header(txn)
        # One value at a time: all of them may be more than this process has memory for.
        inside = [number for _, raw in prefixed(txn, self._keys) if raw[-4:] != NONE for number in contained(raw)]
        for tag in (b"k", b"o"):
            for key in [key for key, _ in prefixed(txn, self._prefix + tag)]:
                txn.delete(key)
        self._write_header(txn, header._replace(length=0, b=0))
        for number in inside:
            self._space.life.unrefer(txn, number)

    def _records(self, txn: Any) -> Iterator[tuple[Any, bytes, bytes]]:
        """Each (key, name, record), in order."""
        start = len(self._keys)
        raws = {where[start:]: raw for where, raw in listed(txn, self._keys)}
        for _, record in listed(txn, self._order):
            name, key = parse_order(record)
            yield key, name, raws[name]

    def _last(self, txn: Any) -> tuple[bytes, Any] | None:
        """(name, key) of the last one."""
        cursor = txn.cursor()
        there = cursor.prev() if cursor.set_range(self._prefix + b"p") else cursor.last()
        if there and cursor.key().startswith(self._order):
            return parse_order(cursor.value())
        return None

    def _fetch(self, txn: Any, key: Any, name: bytes | None) -> list[bytes]:
        """For `Space.values`: one value, or none."""
        found = self._find(txn, key, name)
        return [] if found is None else [found[1]]

    def _all_keys(self, txn: Any) -> list[Any]:
        return [parse_order(record)[1] for _, record in listed(txn, self._order)]

    def _all_values(self, txn: Any) -> list[bytes]:
        return [raw for _, _, raw in self._records(txn)]

    # -- whole operations -------------------------------------------------------------------------------------------

    def _get(self, key: Any) -> list[Any]:
        """[value], or [] if there is none."""
        name = encode(key)
        if name is not None:
            raw = self._store.get(self._keys + name)
            if raw is not None and raw.endswith(NONE):
                return [load(raw)]
        return self._space.values(self._fetch, key, name)

    def _set(self, key: Any, value: Any) -> None:
        name = encode(key)
        if name is not None and type(value) in SCALARS and self._store.replace(self._keys + name, dumps(value, 5), 12):
            return
        self._store.write(self._put, key, name, dump(self._space, value))

    @staticmethod
    def _dumped(space: Space, items: Any) -> list[tuple[Any, bytes | None, Dumped]]:
        return [(key, encode(key), dump(space, value)) for key, value in items]

    def _delete(self, key: Any) -> None:
        def op(txn: Any) -> None:
            found = self._find(txn, key, name)
            if found is None:
                raise KeyError(key)
            self._remove(txn, *found)

        name = encode(key)
        self._store.write(op)

    def _take(self, key: Any) -> list[Any]:
        """Remove it: [value], or [] if there is none."""

        def op(txn: Any) -> tuple[list[bytes], list[Any]]:
            found = self._find(txn, key, name)
            if found is None:
                return [], []
            holds = self._space.holding(txn, [found[1]])  # first: removing it may free what it contains
            self._remove(txn, *found)
            return [found[1]], holds

        name = encode(key)
        raws, holds = self._store.write(op)
        return self._space.loaded(raws, holds)

    def _has(self, key: Any) -> bool:
        name = encode(key)
        if name is not None and self._store.get(self._keys + name) is not None:
            return True
        return self._store.read(self._find, key, name) is not None

    def _items(self) -> list[tuple[Any, Any]]:
        def fetch(txn: Any) -> list[bytes]:
            keys.clear()
            raws = []
            for key, _, raw in self._records(txn):
                keys.append(key)
                raws.append(raw)
            return raws

        keys: list[Any] = []
        values = self._space.values(fetch)
        return list(zip(keys, values, strict=True))

    def _list_keys(self) -> list[Any]:
        return self._store.read(self._all_keys)

    def _clear(self) -> None:
        self._store.write(self._remove_all)

    def _walk(self) -> Iterator[Any]:
        """The keys one after the other, as they are at each step."""

        def step(txn: Any) -> tuple[Header, list[Any]]:
            header = self._read_header(txn)
            for where, record in prefixed(txn, self._order, after):
                return header, [where[len(self._prefix) + 1 :], parse_order(record)[1]]
            return header, []

        after = b""
        length = None
        while True:
            header, found = self._store.read(step)
            if length is None:
                length = header.length
            elif header.length != length:
                raise RuntimeError(f"{self._typeid} changed size during iteration")
            if not found:
                return
            yield found[1]
            after = _PLACE.pack(_PLACE.unpack(found[0])[0] + 1)
