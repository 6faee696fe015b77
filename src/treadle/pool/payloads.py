"""Functions, arguments and results as bytes.

Most of what people send is plain: the fast C pickler does it in about a microsecond.  What that can't do (lambdas,
closures) and what it would do wrongly (things of ``__main__``, which it pickles by name although a worker's
``__main__`` is another module) goes through cloudpickle, by value.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

import cloudpickle

from ..errors import TaskNotPicklable, shorten

PROTOCOL = 5

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


def by_name(blob: bytes) -> bool:
    """Is this a pickled function that its reader imports, rather than one that travels with its code?"""
    return b"cloudpickle" not in blob


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
