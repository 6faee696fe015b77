"""Iterators that several threads may share, as `threading` has them from Python 3.15 on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

from treadle._native._core import Lock

__all__ = ["serialize_iterator", "synchronized_iterator", "concurrent_tee"]

T = TypeVar("T")
P = ParamSpec("P")


class serialize_iterator(Generic[T]):
    """An iterator over `iterable` whose steps are taken one at a time, whichever thread asks.

    A generator's `send`, `throw` and `close` are serialized with them.  Thread-safe; for one process.
    """

    __slots__ = ("_iterator", "_lock")

    def __init__(self, iterable: Iterable[T]) -> None:
        self._iterator: Any = iter(iterable)
        self._lock = Lock(name="serialize_iterator")

    def __iter__(self) -> serialize_iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            item: T = next(self._iterator)
            return item

    def send(self, value: Any, /) -> T:
        """The generator's `send`; AttributeError if it isn't one."""
        with self._lock:
            item: T = self._iterator.send(value)
            return item

    def throw(self, *error: Any) -> T:
        """The generator's `throw`; AttributeError if it isn't one."""
        with self._lock:
            item: T = self._iterator.throw(*error)
            return item

    def close(self) -> None:
        """The generator's `close`; AttributeError if it isn't one."""
        with self._lock:
            self._iterator.close()


def synchronized_iterator(func: Callable[P, Iterable[T]]) -> Callable[P, serialize_iterator[T]]:
    """A decorator: the iterators that `func` returns are wrapped in `serialize_iterator`."""

    @functools.wraps(func)
    def serialized(*args: P.args, **kwargs: P.kwargs) -> serialize_iterator[T]:
        return serialize_iterator(func(*args, **kwargs))

    return serialized


class _Link(Generic[T]):
    """An item and what follows it.  Invariant: `following` is set once; before that, `item` is not valid."""

    __slots__ = ("following", "item")

    def __init__(self) -> None:
        self.item: T
        self.following: _Link[T] | None = None


class _Source(Generic[T]):
    __slots__ = ("iterator", "lock")

    def __init__(self, iterator: Iterator[T]) -> None:
        self.iterator = iterator
        self.lock = Lock(name="concurrent_tee")


class _Tee(Generic[T]):
    """One copy: a place in the chain of links that all copies share.  What no copy needs any more is dropped."""

    __slots__ = ("_link", "_source")

    def __init__(self, source: _Source[T], link: _Link[T]) -> None:
        self._source = source
        self._link = link

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        link = self._link
        if link.following is None:
            with self._source.lock:
                if link.following is None:
                    link.item = next(self._source.iterator)
                    link.following = _Link()
        assert link.following is not None
        self._link = link.following
        return link.item

    @property
    def lock(self) -> Lock:
        """The one lock that all copies share."""
        return self._source.lock

    def __copy__(self) -> _Tee[T]:
        return _Tee(self._source, self._link)


def concurrent_tee(iterable: Iterable[T], n: int = 2) -> tuple[Iterator[T], ...]:
    """`n` independent iterators over the items of one, each for a thread of its own.

    The source is asked by one thread at a time.  A single copy that several threads share needs `serialize_iterator`.
    ValueError if n < 0.
    """
    if n < 0:
        raise ValueError("n must be a non-negative integer")
    if isinstance(iterable, _Tee):
        return tuple(iterable.__copy__() for _ in range(n))
    if n == 0:
        return ()
    source = _Source(iter(iterable))
    start: _Link[T] = _Link()
    return tuple(_Tee(source, start) for _ in range(n))
