"""Pickled functions, remembered where that is safe: so `submit` in a loop pickles its function once."""

from __future__ import annotations

import contextvars
import itertools
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from .._native import _core
from ..errors import TaskNotPicklable, shorten
from .payloads import by_name, describe, dumps

FUNCTIONS_KEPT = 256  # pickled functions remembered, here and in each worker


class Function:
    """A pickled function.  It travels once to each worker, tasks name it by its `id`."""

    __slots__ = ("id", "blob")
    _ids = itertools.count(1)

    def __init__(self, blob: bytes) -> None:
        self.id = next(self._ids)
        self.blob = blob


class FunctionTable:
    """Remembers pickled functions.  Thread-safe.

    A function that is pickled by name is remembered as it is.  One that is pickled by value (of ``__main__``, a
    lambda, a closure) takes the variables that it refers to along; it is remembered only if they are all of a kind
    that can't change, and found again only while its names are bound to the very same objects.  Everything else
    (a bound method, a callable object, a closure over a list) may have changed since, and is pickled each time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards changes of `known`; its `get` is atomic, and an entry never changes
        self.known: dict[int, _core.Known] = {}  # by their ids; the native core reads it too (`_core.Desk`)

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have been in it."""
        self._lock = threading.Lock()

    def encode(self, fn: Callable[..., Any]) -> Function:
        """Pickle `fn`, or find it again.  Raises `TaskNotPicklable`."""
        entry = self.known.get(id(fn))
        # The entry holds the function, so its id can't have been given to another one.
        if entry is not None and (found := entry.current()) is not None:
            assert isinstance(found, Function)
            return found
        if not _is_function(fn):
            return Function(_pickle(fn))
        # The bindings are taken down first: a change while it is being pickled is then noticed the next time.
        bindings = tuple(_bindings(fn, set())) if isinstance(fn, types.FunctionType) else ()
        function = Function(_pickle(fn))
        if by_name(function.blob):
            entry = _core.Known(fn, function, None)
        elif all(_constant(value) for _, _, value in bindings):
            entry = _core.Known(fn, function, bindings)
        else:
            return function
        with self._lock:
            self.known[id(fn)] = entry
            if len(self.known) > FUNCTIONS_KEPT:
                del self.known[next(iter(self.known))]
        return function


def _is_function(fn: Any) -> bool:
    """Is it no method of an object, which may have changed since?"""
    if type(fn) is types.BuiltinFunctionType:
        return isinstance(fn.__self__, (types.ModuleType, type, type(None)))
    return type(fn) is types.FunctionType


def _pickle(fn: Callable[..., Any]) -> bytes:
    try:
        return dumps(fn)
    except Exception as error:
        raise TaskNotPicklable(f"the function {shorten(fn)} can't be pickled: {describe(error)}") from error


# A name that a function refers to, and what it is bound to: see `_core.Known`.
_Binding = tuple[Any, Any, Any]
_UNBOUND = _core.Known


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return _UNBOUND


def _bindings(fn: types.FunctionType, seen: set[int]) -> Iterator[_Binding]:
    """All that a function pickled by value would take along, and what those functions would take in turn."""
    if id(fn) in seen:
        return
    seen.add(id(fn))
    found: list[_Binding] = [(fn, None, (fn.__code__, fn.__defaults__, fn.__kwdefaults__))]
    found += [(fn.__globals__, name, fn.__globals__.get(name, _UNBOUND)) for name in _names(fn.__code__)]
    found += [(cell, None, _contents(cell)) for cell in fn.__closure__ or ()]
    for binding in found:
        yield binding
        value = binding[2]
        if type(value) is types.FunctionType and not _importable(value):
            yield from _bindings(value, seen)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names(constant)


def _importable(value: Any) -> bool:
    return importable_module(value.__module__) and "<" not in value.__qualname__


def importable_module(name: str | None) -> bool:
    """Is it one that another process can import?"""
    return name not in ("__main__", "__mp_main__", None)


_CONSTANT = (
    type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis),
    types.ModuleType, types.BuiltinFunctionType, types.FunctionType, types.CodeType, type,
    contextvars.ContextVar,
)  # fmt: skip


def _constant(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(_constant(each) for each in value)
    if type(value) is dict:  # __kwdefaults__, or a global dict: either may change without being bound anew
        return False
    return isinstance(value, _CONSTANT)
