"""Shared dicts and namespaces."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from treadle.shared.keys import encode
from treadle.shared.mapping import Mapping
from treadle.shared.values import NONE, dump, load

__all__ = ["DictProxy", "NamespaceProxy"]

_MISSING: Any = object()


class DictProxy(Mapping):
    """A dict that several processes share; see `dict` for its methods, and `BaseProxy` for what holds for all proxies.

    As in a dict: keys keep their order, and `1`, `1.0` and `True` are the same key.  Values are copied in and out; a
    proxy as a value goes on being shared.
    """

    _kind = b"d"
    _typeid = "dict"
    _exposed_ = (
        "__contains__", "__delitem__", "__getitem__", "__ior__", "__iter__", "__len__", "__or__", "__reversed__",
        "__ror__", "__setitem__", "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault",
        "update", "values",
    )  # fmt: skip

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __getitem__(self, key: Any) -> Any:
        name = encode(key)
        if name is not None:
            raw = self._store.get(self._keys + name)
            if raw is not None and raw.endswith(NONE):
                return load(raw)
        found = self._space.values(self._fetch, key, name)
        if not found:
            raise KeyError(key)
        return found[0]

    def get(self, key: Any, default: Any = None, /) -> Any:
        """A copy of the value, or `default` itself if there is no such key; never a KeyError."""
        found = self._get(key)
        return found[0] if found else default

    __setitem__ = Mapping._set  # itself: a call in between costs as much as a lock

    def __delitem__(self, key: Any) -> None:
        self._delete(key)

    def __contains__(self, key: Any) -> bool:
        return self._has(key)

    def __len__(self) -> int:
        return self._length()

    def __iter__(self) -> Iterator[Any]:
        return self._walk()

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self.keys())

    def keys(self) -> list[Any]:
        """A list of the keys in their order, as of one moment; not a view, so it does not follow changes."""
        return self._list_keys()

    def values(self) -> list[Any]:
        """A list of copies of all values, in the order of their keys and of one moment; not a view."""
        return self._space.values(self._all_values)

    def items(self) -> list[tuple[Any, Any]]:
        """A list of all (key, copy of its value), in order and of one moment; not a view."""
        return self._items()

    def copy(self) -> dict[Any, Any]:
        """A plain dict of this process, with what was there at one moment.  Proxies in it stay shared."""
        return dict(self._items())

    _getvalue = copy

    def clear(self) -> None:
        """Remove all keys, in one step."""
        self._clear()

    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Remove the key and return its value, in one step: of several processes one gets it.

        If there is no such key: `default`, or KeyError without one.
        """
        found = self._take(key)
        if found:
            return found[0]
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Remove the last key and return it with its value, in one step.  KeyError if the dict is empty."""

        def op(txn: Any) -> Any:
            last = self._last(txn)
            if last is None:
                raise KeyError("popitem(): dictionary is empty")
            name, key = last
            raw = txn.get(self._keys + name)
            holds = self._space.holding(txn, [raw])
            self._remove(txn, name, raw)
            return key, raw, holds

        key, raw, holds = self._store.write(op)
        return key, self._space.loaded([raw], holds)[0]

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """The key's value; if there is none, `default` becomes it, in the same step: of several processes one sets it.

        Returns `default` itself if it was set, else a copy of what is there.
        """

        def op(txn: Any) -> Any:
            found = self._find(txn, key, name)
            if found is None:
                self._put(txn, key, name, dumped)
                return None
            return [found[1]], self._space.holding(txn, [found[1]])

        name = encode(key)
        dumped = dump(self._space, default)
        found = self._store.write(op)
        return default if found is None else self._space.loaded(*found)[0]

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Set all keys of a mapping or of pairs, and all keywords, in one step: nobody sees only some of them.

        As `dict.update` otherwise.  If a key or value can't be pickled, nothing has changed.
        """
        self._store.write(self._put_all, self._dumped(self._space, [*_pairs(other), *more.items()]))

    def __or__(self, other: Any) -> Any:
        theirs = _as_dict(other)
        return NotImplemented if theirs is None else self.copy() | theirs

    def __ror__(self, other: Any) -> Any:
        theirs = _as_dict(other)
        return NotImplemented if theirs is None else theirs | self.copy()

    def __ior__(self, other: Any) -> DictProxy:
        self.update(other)
        return self

    @staticmethod
    def fromkeys(keys: Iterable[Any], value: Any = None, /) -> dict[Any, Any]:
        """A plain dict, as `dict.fromkeys`, not a shared one: the standard library's proxies do the same."""
        return dict.fromkeys(keys, value)

    def update_value(self, key: Any, fn: Callable[[Any], Any], default: Any = _MISSING) -> Any:
        """`self[key] = fn(self[key])` in one step, and that value: nobody else changes it in between.

        `fn` gets `default` if there is no such key; without a default that is a KeyError.  It is called in this
        process, while others wait: it should be short.  If it raises, nothing has changed.
        """
        with self._store.transaction():
            found = self._get(key)
            if not found and default is _MISSING:
                raise KeyError(key)
            value = fn(found[0] if found else default)
            self._set(key, value)
        return value


def _pairs(other: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(other, DictProxy):
        return other.items()
    if isinstance(other, dict):
        return other.items()
    return dict(other).items()  # raises what dict.update does


def _as_dict(other: Any) -> dict[Any, Any] | None:
    if isinstance(other, DictProxy):
        return other.copy()
    return other if isinstance(other, dict) else None


class NamespaceProxy(Mapping):
    """Attributes that several processes share.  Names that begin with `_` belong to the proxy itself."""

    _kind = b"n"
    _typeid = "Namespace"
    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = self._get(name)
        if not found:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self)
        return found[0]

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] == "_":
            object.__setattr__(self, name, value)
        else:
            self._set(name, value)

    def __delattr__(self, name: str) -> None:
        if name[:1] == "_":
            object.__delattr__(self, name)
            return
        try:
            self._delete(name)
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self) from None

    def update_value(self, name: str, fn: Callable[[Any], Any], default: Any = _MISSING) -> Any:
        """`ns.name = fn(ns.name)` in one step, and that value.  See `DictProxy.update_value`."""
        with self._store.transaction():
            found = self._get(name)
            if not found and default is _MISSING:
                raise AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self)
            value = fn(found[0] if found else default)
            self._set(name, value)
        return value

    def _getvalue(self) -> types.SimpleNamespace:
        return Namespace(**dict(self._items()))


class Namespace(types.SimpleNamespace):
    """What a copy of a shared namespace is."""

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"Namespace({', '.join(shown)})"


MutableMapping.register(DictProxy)
