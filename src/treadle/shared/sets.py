"""Shared sets."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Iterator, MutableSet
from collections.abc import Set as AbstractSet
from typing import Any

from treadle.shared.keys import encode
from treadle.shared.mapping import Mapping
from treadle.shared.space import Space
from treadle.shared.values import NONE

__all__ = ["SetProxy"]

_PRESENT: tuple[bytes, bytes, list[int]] = (b"", NONE, [])  # a set's members have no value


class SetProxy(Mapping):
    """A set that several processes share; see `set` for its methods, and `BaseProxy` for what holds for all proxies."""

    _kind = b"s"
    _typeid = "set"
    _exposed_ = (
        "__and__", "__class_getitem__", "__contains__", "__iand__", "__ior__", "__isub__", "__iter__", "__ixor__",
        "__len__", "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__", "__ge__", "__gt__",
        "__le__", "__lt__", "add", "clear", "copy", "difference", "difference_update", "discard", "intersection",
        "intersection_update", "isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference",
        "symmetric_difference_update", "union", "update",
    )  # fmt: skip

    __class_getitem__: Any = classmethod(types.GenericAlias)

    # -- reading ----------------------------------------------------------------------------------------------------

    def copy(self) -> set[Any]:
        """A plain set of this process, with the members of one moment."""
        return set(self._list_keys())

    _getvalue = copy

    def __contains__(self, value: Any) -> bool:
        return self._has(value)

    def __len__(self) -> int:
        return self._length()

    def __iter__(self) -> Iterator[Any]:
        return self._walk()

    def isdisjoint(self, other: Iterable[Any], /) -> bool:
        """Whether they have no member in common, as of one moment."""
        return self.copy().isdisjoint(other)

    def issubset(self, other: Iterable[Any], /) -> bool:
        """Whether all members are in `other`, as of one moment."""
        return self.copy().issubset(other)

    def issuperset(self, other: Iterable[Any], /) -> bool:
        """Whether all of `other` are members, as of one moment."""
        return self.copy().issuperset(other)

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set: the members of one moment, and all of the others."""
        return self.copy().union(*others)

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set: those members, as of one moment, that are in all of the others."""
        return self.copy().intersection(*others)

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """A plain set: those members, as of one moment, that are in none of the others."""
        return self.copy().difference(*others)

    def symmetric_difference(self, other: Iterable[Any], /) -> set[Any]:
        """A plain set of what is in exactly one of the two: the members of one moment, and `other`."""
        return self.copy().symmetric_difference(other)

    def __le__(self, other: Any) -> Any:
        return self.copy() <= _plain(other)

    def __lt__(self, other: Any) -> Any:
        return self.copy() < _plain(other)

    def __ge__(self, other: Any) -> Any:
        return self.copy() >= _plain(other)

    def __gt__(self, other: Any) -> Any:
        return self.copy() > _plain(other)

    def __or__(self, other: Any) -> Any:
        return self.copy() | _plain(other)

    def __and__(self, other: Any) -> Any:
        return self.copy() & _plain(other)

    def __sub__(self, other: Any) -> Any:
        return self.copy() - _plain(other)

    def __xor__(self, other: Any) -> Any:
        return self.copy() ^ _plain(other)

    def __ror__(self, other: Any) -> Any:
        return _plain(other) | self.copy()

    def __rand__(self, other: Any) -> Any:
        return _plain(other) & self.copy()

    def __rsub__(self, other: Any) -> Any:
        return _plain(other) - self.copy()

    def __rxor__(self, other: Any) -> Any:
        return _plain(other) ^ self.copy()

    # -- changing ---------------------------------------------------------------------------------------------------

    def add(self, value: Any, /) -> None:
        """Add a member; if an equal one is there, that stays.  TypeError for what can't be hashed."""
        self._store.write(self._add, [(value, encode(value))])

    def _add(self, txn: Any, values: list[tuple[Any, bytes | None]]) -> None:
        for value, name in values:
            if self._find(txn, value, name) is None:
                self._put(txn, value, name, _PRESENT)

    def update(self, *others: Iterable[Any]) -> None:
        """Add all members of the others, in one step.  They are read to their ends before."""
        values = [value for other in others for value in list(other)]
        self._store.write(self._add, self._named(self._space, values))

    @staticmethod
    def _named(space: Space, values: Iterable[Any]) -> list[tuple[Any, bytes | None]]:
        return [(value, encode(value)) for value in values]

    def discard(self, value: Any, /) -> None:
        """Remove a member if it is there."""
        with contextlib.suppress(KeyError):
            self._delete(value)

    def remove(self, value: Any, /) -> None:
        """Remove a member, in one step: of several processes that try, one succeeds.  KeyError if it is not there."""
        self._delete(value)

    def clear(self) -> None:
        """Remove all members, in one step."""
        self._clear()

    def pop(self) -> Any:
        """Remove the member that was added last and return it, in one step.  KeyError if the set is empty."""

        def op(txn: Any) -> Any:
            last = self._last(txn)
            if last is None:
                raise KeyError("pop from an empty set")
            name, value = last
            self._remove(txn, name, txn.get(self._keys + name))
            return value

        return self._store.write(op)

    def _become(self, result: set[Any]) -> None:
        """Within a transaction, be these values."""
        for value in self.copy() - result:
            self._delete(value)
        self.update(result)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep only what is in all of the others too, in one step.  They are read while others wait."""
        with self._store.transaction():
            self._become(self.copy().intersection(*others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove what is in any of the others, in one step.  They are read while others wait."""
        with self._store.transaction():
            self._become(self.copy().difference(*others))

    def symmetric_difference_update(self, other: Iterable[Any], /) -> None:
        """Remove what is in `other`, and add what was only there, in one step.  It is read while others wait."""
        with self._store.transaction():
            self._become(self.copy().symmetric_difference(other))

    def __ior__(self, other: Any) -> SetProxy:
        self.update(_set(other))
        return self

    def __iand__(self, other: Any) -> SetProxy:
        self.intersection_update(_set(other))
        return self

    def __isub__(self, other: Any) -> SetProxy:
        self.difference_update(_set(other))
        return self

    def __ixor__(self, other: Any) -> SetProxy:
        self.symmetric_difference_update(_set(other))
        return self


def _plain(other: Any) -> Any:
    return other.copy() if isinstance(other, SetProxy) else other


def _set(other: Any) -> AbstractSet[Any]:
    if isinstance(other, SetProxy):
        return other.copy()
    if not isinstance(other, AbstractSet):
        raise TypeError(f"unsupported operand type for a shared set: {type(other).__name__!r}")
    return other


MutableSet.register(SetProxy)
