"""Pickling with cloudpickle: things of the main module, lambdas and closures travel with all that they are made of."""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from .payloads import PROTOCOL, reduce_variable


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """How code travels: with the name of its file, which some versions of cloudpickle replace by a word.

    Tracebacks and the places that `treadle why` shows name the file; that pickles are the same wherever a file lies,
    for which those versions do it, matters to nobody here."""
    make, values = _reduce_code(code)[:2]
    return make, tuple(code.co_filename if value == _NO_FILE else value for value in values)


_reduce_code: Callable[[CodeType], tuple[Any, ...]] = cloudpickle.Pickler.dispatch_table[CodeType]
_NO_FILE = "<dynamic-code>"

# What both picklers by value do in another way than cloudpickle: a function may refer to context variables.
REDUCERS: dict[type, Callable[[Any], tuple[Any, ...]]] = {ContextVar: reduce_variable, CodeType: reduce_code}


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with `REDUCERS`."""

    dispatch_table: ClassVar[Any] = ChainMap(REDUCERS, cloudpickle.Pickler.dispatch_table)


def dumps(value: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle it, without the buffers that are not to be kept."""
    main = sys.modules.get("__mp_main__")
    if main is not None and main.__name__ not in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.register_pickle_by_value(main)  # a child of multiprocessing: its __main__ under another name
    with io.BytesIO() as file:
        _Pickler(file, PROTOCOL, buffer_callback=keep).dump(value)
        return file.getvalue()
