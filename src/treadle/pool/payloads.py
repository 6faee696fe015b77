"""Functions, arguments and results as bytes.

Most of what people send is small and plain: the core's codec does that in a fraction of a microsecond
(`_native/values/payload_object.c`; the first byte says which it is).  The rest the C pickler does.  What that can't do
(lambdas, closures) and what it would do wrongly (things of ``__main__``, which it pickles by name although a worker's
``__main__`` is another module) goes through cloudpickle, by value.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, overload

from .._native import _core
from ..errors import TaskNotPicklable, shorten
from ..handles import attach

PROTOCOL = 5

_MAIN = b"_main__"  # the end of "__main__", and of "__mp_main__", its name in a child of multiprocessing


def _by_value_modules() -> Any:
    """The modules that the program wants pickled by value.  cloudpickle's public function copies the set each time."""
    module = sys.modules.get("cloudpickle.cloudpickle")
    return getattr(module, "_PICKLE_BY_VALUE_MODULES", None)


def _pack(value: Any) -> bytes:
    """Pickle what the codec does not take."""
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:
        return _by_value(value)
    # A reference to a module contains its name.  A false alarm only costs time.
    if _MAIN in data or _by_value_modules():
        return _by_value(value)
    return data


# dumps(value): bytes that any worker, or its parent, can load.  Raises whatever pickling it raises.
dumps: Callable[[Any], bytes] = _core.payload_dumps
# loads(data): the counterpart.  Raises whatever loading it raises.
loads: Callable[[Any], Any] = _core.payload_loads
# Buffers of at least so many bytes are not copied into a pickle that goes to a store.
APART_BYTES = 128 << 10


def _pack_apart(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """As `_pack`, with the large buffers beside the pickle."""
    buffers: list[pickle.PickleBuffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Shall the pickle itself have it?"""
        try:
            large = buffer.raw().nbytes >= APART_BYTES
        except BufferError:  # not contiguous
            return True
        if large:
            buffers.append(buffer)
        return not large

    try:
        data = pickle.dumps(value, PROTOCOL, buffer_callback=keep)
    except Exception:
        data = b""
    if not data or _MAIN in data or _by_value_modules():
        buffers.clear()
        data = _by_value(value, keep)
    return data, buffers


def _load_apart(data: Any, buffers: Any = None) -> Any:
    return pickle.loads(data, buffers=buffers)


_core.hook("pack", _pack)
_core.hook("unpack", pickle.loads)
_core.hook("pack_apart", _pack_apart)
_core.hook("loads", _load_apart)


class _Policy(threading.local):
    """How things of the main module are pickled in this thread, if not by value."""

    dumps: Callable[[Any], bytes] | None = None


policy = _Policy()
results_policy: Callable[[Any], bytes] | None = None  # the same for a whole worker process: for what it sends back


def _by_value(value: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    dumps = policy.dumps or results_policy
    return by_value(value, keep) if dumps is None else dumps(value)


def by_value(value: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle things of the main module with all that they are made of; without the buffers that are not to be kept."""
    from .by_value import dumps  # it takes long to import, and some programs never need it

    return dumps(value, keep)


# Where a context variable is found by whoever loads it, if it has a home in a module: what `__reduce__` would return.
# `contexts.py` knows.
home_of_variable: Callable[[ContextVar[Any]], tuple[Any, ...] | None] = lambda variable: None  # noqa: E731


def reduce_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """How a context variable travels with a function that refers to it."""
    home = home_of_variable(variable)
    if home is not None:
        return home
    return variable_of_token, (token_of(variable), variable.name, _name_in_main(variable), *_default(variable))


def _name_in_main(variable: ContextVar[Any]) -> str:
    scope: dict[str, Any] = vars(sys.modules["__main__"])
    if scope.get(variable.name) is variable:
        return str(variable.name)
    return next((name for name, value in list(scope.items()) if value is variable), "")


# Kinds of values that can't change.
PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})

# Variables that have been pickled by value, or came that way, and the names that tell them apart everywhere.  Both only
# grow, each by operations that are atomic: context variables are made once and are never collected by anybody.
_tokens: dict[ContextVar[Any], str] = {}
_variables: dict[str, ContextVar[Any]] = {}


def token_of(variable: ContextVar[Any]) -> str:
    """A name for a context variable that has no home in a module."""
    token = _tokens.get(variable)
    if token is None:
        token = _tokens.setdefault(variable, os.urandom(16).hex())
        _variables[token] = variable
    return token


def variable_of_token(token: str, name: str, name_in_main: str, *default: Any) -> ContextVar[Any]:
    """The one that stands for it here: the same one each time.

    In a process that has the program's main module, as workers of a `multiprocessing.Pool` do, it is the one there.
    """
    variable = _variables.get(token)
    if variable is None:
        made = _of_main(name_in_main, name) if name_in_main else None
        if made is None:
            made = ContextVar(name, default=default[0]) if default else ContextVar(name)
        variable = _variables.setdefault(token, made)
        _tokens[variable] = token
    return variable


def _of_main(name_in_main: str, name: str) -> ContextVar[Any] | None:
    try:
        found = getattr(sys.modules["__main__"], name_in_main, None)
    except Exception:  # it has to be run for that, and that fails: then no function of it can be called here either
        return None
    return found if isinstance(found, ContextVar) and found.name == name else None


def _default(variable: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        default = Context().run(variable.get)
        dumps(default)
    except Exception:  # there is none, or it can't travel
        return ()
    return (default,)


def by_name(blob: bytes) -> bool:
    """Is this a pickled function that its reader imports, rather than one that travels with its code?"""
    return b"cloudpickle" not in blob


# Bytes, or for what is large and goes through a store, where it lies there.
Payload = bytes | _core.Parcel


@overload
def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bytes: ...
@overload
def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None, store: _core.Store | None) -> Payload: ...
def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None, store: _core.Store | None = None) -> Payload:
    """Pickle a call's arguments.  Raises `TaskNotPicklable`, which names the argument at fault."""
    try:
        # A bare tuple is a call without keywords; a list of two is one with.
        value = [args, kwargs] if kwargs else args
        return dumps(value) if store is None else store.dumps(value)
    except Exception as error:
        where = _culprit(args, kwargs or {})
        raise TaskNotPicklable(f"{where} can't be pickled: {describe(error)}") from error


def decode_arguments(blob: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The counterpart of `encode_arguments`.  Raises whatever loading raises."""
    value = loads(blob)
    if type(value) is tuple:
        return value, {}
    return value[0], value[1]


# How a pickle names `handles.attach` the first time, by which objects in shared memory travel.
_ATTACH = pickle.dumps(attach, PROTOCOL)
_ATTACH = _ATTACH[_ATTACH.index(b"\x8c") : -2]  # from the name of its module to the instruction that finds it


def shares(blob: bytes) -> bool:
    """Is there anything in it that is in shared memory?"""
    return _ATTACH in blob


class _Hole:
    """Where an argument was that travels apart from its call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hole, (self.number,)


def take_out(blob: bytes, least: int) -> tuple[bytes, list[bytes]]:
    """Encoded arguments without those that take `least` bytes or more, and these, each pickled by itself.

    Raises whatever loading and pickling them raises.
    """
    args, kwargs = decode_arguments(blob)
    apart: list[bytes] = []

    def lighter(value: Any) -> Any:
        if type(value) in _SLIGHT:
            return value
        data = dumps(value)
        if len(data) < least:
            return value
        apart.append(data)
        return _Hole(len(apart) - 1)

    rest = tuple([lighter(value) for value in args]), {name: lighter(value) for name, value in kwargs.items()}
    return (encode_arguments(*rest), apart) if apart else (blob, apart)


_SLIGHT = frozenset({type(None), bool, int, float, complex})


class _Mended:
    """Arguments to be put together where they are loaded."""

    __slots__ = ("parts",)

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _mend, self.parts


def put_back(blob: bytes, apart: list[bytes]) -> bytes:
    """The counterpart of `take_out`: encoded arguments again.  Loads nothing of what is in them."""
    return pickle.dumps(_Mended(blob, *apart), PROTOCOL)


def _mend(blob: bytes, *apart: bytes) -> list[Any]:
    args, kwargs = decode_arguments(blob)

    def whole(value: Any) -> Any:
        return loads(apart[value.number]) if type(value) is _Hole else value

    return [tuple([whole(value) for value in args]), {name: whole(value) for name, value in kwargs.items()}]


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
