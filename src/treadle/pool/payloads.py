"""Functions, arguments and results as bytes.

Most of what people send is plain: the fast C pickler does it in about a microsecond.  What that can't do (lambdas,
closures) and what it would do wrongly (things of ``__main__``, which it pickles by name although a worker's
``__main__`` is another module) goes through cloudpickle, by value.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from ..errors import TaskNotPicklable, shorten

PROTOCOL = 5
FUNCTIONS_KEPT = 256  # pickled functions remembered, on each side

_MAIN = b"_main__"  # the end of "__main__", and of "__mp_main__", its name in a child of multiprocessing

# The modules that the program wants pickled by value.  cloudpickle's public function copies the set at each call.
_by_value_modules: set[str] = cloudpickle.cloudpickle._PICKLE_BY_VALUE_MODULES

loads = pickle.loads


def dumps(value: Any) -> bytes:
    """Pickle a value so that any worker, or its parent, can load it.  Raises whatever pickling it raises."""
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:
        return _by_value(value)
    # A reference to a module contains its name.  A false alarm only costs time.
    if _MAIN in data or _by_value_modules:
        return _by_value(value)
    return data


def _by_value(value: Any) -> bytes:
    main = sys.modules.get("__mp_main__")
    if main is not None and main.__name__ not in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.register_pickle_by_value(main)  # a child of multiprocessing: its __main__ under another name
    data: bytes = cloudpickle.dumps(value, PROTOCOL)
    return data


class Function:
    """A pickled function.  It travels once to each worker, tasks name it by its `id`."""

    __slots__ = ("id", "blob")
    _ids = itertools.count(1)

    def __init__(self, blob: bytes) -> None:
        self.id = next(self._ids)
        self.blob = blob


class FunctionTable:
    """Remembers what functions look like pickled, so that `submit` in a loop pickles its function once.

    Only plain functions and built-ins are remembered.  A bound method or a callable object carries state that may
    change between two calls, so it is pickled each time; so is a function when a variable that it refers to has been
    bound to something else since.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[Callable[..., Any], tuple[int, ...], Function]] = {}

    def encode(self, fn: Callable[..., Any]) -> Function:
        """Pickle `fn`, or find it again.  Raises `TaskNotPicklable`."""
        kind = type(fn)
        if kind is not types.FunctionType and kind is not types.BuiltinFunctionType:
            return Function(self._pickle(fn))
        # Found without the lock: a dict's get is atomic, and an entry never changes.
        entry = self._known.get(id(fn))
        # The entry holds the function, so its id can't have been given to another one.
        if entry is not None and (entry[1] is _FIXED or entry[1] == _fingerprint(fn)):
            return entry[2]
        mark = _FIXED if kind is types.BuiltinFunctionType else _fingerprint(fn)
        function = Function(self._pickle(fn))
        with self._lock:
            self._known[id(fn)] = (fn, mark, function)
            if len(self._known) > FUNCTIONS_KEPT:
                del self._known[next(iter(self._known))]
        return function

    @staticmethod
    def _pickle(fn: Callable[..., Any]) -> bytes:
        try:
            return dumps(fn)
        except Exception as error:
            raise TaskNotPicklable(f"the function {shorten(fn)} can't be pickled: {describe(error)}") from error


_FIXED: tuple[int, ...] = ()  # the fingerprint of a function that is pickled by name


def _fingerprint(fn: Any) -> tuple[int, ...]:
    """Changes when a name that the function uses has been bound anew.

    A function of an importable module is pickled by name; its variables stay at home and don't matter.
    """
    cells = fn.__closure__
    if cells is None and fn.__module__ not in ("__main__", "__mp_main__"):
        return _FIXED
    names = fn.__globals__
    marks = [id(names[name]) for name in fn.__code__.co_names if name in names]
    for cell in cells or ():
        try:
            marks.append(id(cell.cell_contents))
        except ValueError:  # not bound yet
            marks.append(0)
    return (id(fn.__code__), id(fn.__defaults__), *marks)


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bytes:
    """Pickle a call's arguments.  Raises `TaskNotPicklable`, which names the argument at fault."""
    try:
        # A bare tuple is a call without keywords; a list of two is one with.
        return dumps([args, kwargs] if kwargs else args)
    except Exception as error:
        where = _culprit(args, kwargs or {})
        raise TaskNotPicklable(f"{where} can't be pickled: {describe(error)}") from error


def decode_arguments(blob: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The counterpart of `encode_arguments`.  Raises whatever loading raises."""
    value = loads(blob)
    if type(value) is tuple:
        return value, {}
    return value[0], value[1]


def describe(error: BaseException) -> str:
    """``TypeError: cannot pickle '_thread.lock' object``, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _culprit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = [(f"argument {i}", v) for i, v in enumerate(args)] + [(f"argument {k!r}", v) for k, v in kwargs.items()]
    for name, value in named:
        try:
            dumps(value)
        except Exception:
            return f"{name}, {shorten(value)},"
    return "the arguments"
