"""Shared values and arrays."""

from __future__ import annotations

import array
import types
from collections.abc import Callable, Iterable
from operator import index as as_index
from typing import Any

from treadle.shared.lifetimes import Hold, contained
from treadle.shared.proxy import BaseProxy, by_index
from treadle.shared.space import Space
from treadle.shared.store import listed
from treadle.shared.values import NONE, SCALARS, dump, dumps, load

__all__ = ["ArrayProxy", "ValueProxy"]


class ValueProxy(BaseProxy):
    """One value that several processes share: anything that can be pickled; the type code is only shown."""

    _kind = b"v"
    _typeid = "Value"
    _exposed_ = ("get", "set")

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, space: Space, hold: Hold) -> None:
        super().__init__(space, hold)
        self._where = self._prefix + b"v"

    @classmethod
    def _make(cls, space: Space, typecode: str, value: Any, name: str | None) -> ValueProxy:
        def fill(txn: Any, number: int) -> None:
            proxy = cls(space, space.life.hold(txn, number))
            txn.put(proxy._prefix + b"t", str(typecode).encode())
            proxy._put(txn, dumped)

        dumped = dump(space, value)
        return cls._create(space, fill, name)  # type: ignore[no-any-return]

    def _put(self, txn: Any, dumped: tuple[bytes, bytes, list[int]]) -> None:
        data, tail, numbers = dumped
        old = txn.get(self._where)
        for number in numbers:
            self._space.life.refer(txn, number)
        txn.put(self._where, data + tail)
        if old is not None:
            for number in contained(old):
                self._space.life.unrefer(txn, number)

    def _fetch(self, txn: Any) -> list[bytes]:
        self._read_header(txn)
        return [txn.get(self._where)]

    def get(self) -> Any:
        """A copy of the value; a proxy in it goes on being shared.  `value` is the same as an attribute."""
        raw = self._store.get(self._where)
        return load(raw) if raw is not None and raw.endswith(NONE) else self._space.values(self._fetch)[0]

    def set(self, value: Any) -> None:
        """Put another value in its place, in one step.  Raises what pickling it raises; then nothing has changed."""

        def op(txn: Any) -> None:
            self._read_header(txn)
            self._put(txn, dumped)

        if type(value) in SCALARS and self._store.replace(self._where, dumps(value, 5), 4):
            return
        dumped = dump(self._space, value)
        self._store.write(op)

    value = property(get, set)

    def update_value(self, fn: Callable[[Any], Any]) -> Any:
        """`self.value = fn(self.value)` in one step, and that value.  See `DictProxy.update_value`."""
        with self._store.transaction():
            value = fn(self.get())
            self.set(value)
        return value

    _getvalue = get

    def _text(self, value: Any) -> str:
        code = (self._store.get(self._prefix + b"t") or b"").decode()
        return f"Value({code!r}, {value!r})"


class ArrayProxy(BaseProxy):
    """An `array.array` that several processes share.  Its elements stand in pieces, so a big one is quick to change."""

    _kind = b"a"
    _typeid = "Array"
    _exposed_ = ("__len__", "__getitem__", "__setitem__")
    _PIECE = 128  # elements

    def __init__(self, space: Space, hold: Hold) -> None:
        super().__init__(space, hold)
        self._pieces = self._prefix + b"a"
        self._code: str | None = None

    @classmethod
    def _make(cls, space: Space, typecode: str, sequence: Iterable[Any], name: str | None) -> ArrayProxy:
        def fill(txn: Any, number: int) -> None:
            proxy = cls(space, space.life.hold(txn, number))
            txn.put(proxy._prefix + b"t", typecode.encode())
            proxy._put(txn, values)

        values = array.array(typecode, sequence)
        return cls._create(space, fill, name)  # type: ignore[no-any-return]

    def _typecode(self, txn: Any) -> str:
        if self._code is None:
            self._code = txn.get(self._prefix + b"t").decode()
        return self._code

    def _piece(self, number: int) -> bytes:
        return self._pieces + number.to_bytes(8, "big")

    def _all(self, txn: Any) -> array.array[Any]:
        values = array.array(self._typecode(txn))
        for _, piece in listed(txn, self._pieces):
            values.frombytes(piece)
        return values

    def _put(self, txn: Any, values: array.array[Any]) -> None:
        size = self._PIECE
        for at in range(0, len(values), size):
            txn.put(self._piece(at // size), values[at : at + size].tobytes())
        header = self._read_header(txn)
        for number in range(-(-len(values) // size), -(-header.length // size)):
            txn.delete(self._piece(number))
        self._write_header(txn, header._replace(length=len(values)))

    def _at(self, txn: Any, i: int) -> tuple[bytes, array.array[Any], int]:
        """The piece with that element: (where, values, index in it)."""
        length = self._extent(txn)[1]
        at = i + length if i < 0 else i
        if not 0 <= at < length:
            raise IndexError("array index out of range")
        where = self._piece(at // self._PIECE)
        values = array.array(self._typecode(txn))
        values.frombytes(txn.get(where))
        return where, values, at % self._PIECE

    def __len__(self) -> int:
        return self._length()

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return self._getvalue()[which]
        i = as_index(which)
        _, values, at = self._store.read(self._at, i)
        return values[at]

    def __setitem__(self, which: Any, value: Any) -> None:
        def op(txn: Any) -> None:
            if isinstance(which, slice):
                values = self._all(txn)
                values[which] = value
                self._put(txn, values)
                return
            where, values, at = self._at(txn, as_index(which))
            values[at] = value
            txn.put(where, values.tobytes())

        self._store.write(op)

    __iter__ = by_index

    def _getvalue(self) -> array.array[Any]:
        return self._store.read(self._all)
