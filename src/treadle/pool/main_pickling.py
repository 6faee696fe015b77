"""Pickling what a process gets that has another main module, and what it sends back.

The standard library's reductions (connections, sockets, locks, what a program has registered) together with
cloudpickle's (lambdas, closures, things of the main module).
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections import ChainMap
from multiprocessing.reduction import ForkingPickler
from typing import Any, ClassVar, Protocol

import cloudpickle

from treadle import displaced

from .by_value import REDUCERS
from .main_module import MAIN_NAMES, Plan, StandIn, find, main_globals

__all__ = ["Inherited", "PoolPickler", "Pickler", "dumps", "dumps_for_parent", "dumps_for_worker", "things_of_main"]

PROTOCOL = 5
THING_SIZE = 1 << 18  # bytes: a longer function or class of the main module is not sent along unasked


class _Here:
    """For `Pickler`: by name goes what has its name in the main module of this process."""

    def has(self, thing: Any, qualname: str) -> bool:
        """Is it to be found under that name?"""
        return find(sys.modules["__main__"], qualname) is thing


class Known(Protocol):
    """What the process that loads it will find under its name."""

    def has(self, thing: Any, qualname: str) -> bool: ...


class Inherited:
    """For workers that are forked: they find what the main module has now, and what is still there when it is sent."""

    def __init__(self) -> None:
        things = list(sys.modules["__main__"].__dict__.items())
        self._things = {name: thing for name, thing in things if isinstance(thing, (types.FunctionType, type))}

    def has(self, thing: Any, qualname: str) -> bool:
        """Will it be found under that name?"""
        main = sys.modules["__main__"]
        root = qualname.partition(".")[0]
        return root in self._things and self._things[root] is main.__dict__.get(root) and find(main, qualname) is thing


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """`by_value` collects the functions and classes of the main module that travel with their code."""

    # Its first part is the standard library's own table, so what is registered later counts too.
    dispatch_table: ClassVar[Any] = ChainMap(
        ForkingPickler._extra_reducers,  # type: ignore[attr-defined]
        REDUCERS,
        cloudpickle.Pickler.dispatch_table,
    )

    def __init__(self, file: Any, plan: Known) -> None:
        super().__init__(file, PROTOCOL)
        self._plan = plan
        self.by_value: dict[str, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Called by the C pickler for every object that it can't do by itself."""
        if isinstance(obj, (types.FunctionType, type)) and getattr(obj, "__module__", None) in MAIN_NAMES:
            if self._plan.has(obj, obj.__qualname__):
                return NotImplemented  # by name
            if "." not in obj.__qualname__ and "<" not in obj.__qualname__:
                self.by_value[obj.__qualname__] = obj
        if displaced.modules and (found := displaced.reduced(obj)) is not None:
            return found
        return super().reducer_override(obj)


class PoolPickler(Pickler):
    """For the workers of a pool: what comes by value shares its globals with all else of the main module there.

    So an initializer may bind a global, and the functions that are called later find it.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Called by the C pickler for every object that it can't do by itself."""
        found = super().reducer_override(obj)
        mine = isinstance(obj, types.FunctionType) and obj.__globals__ is sys.modules["__main__"].__dict__
        if not mine or type(found) is not tuple:
            return found
        make, (code, _, *more), state, *_ = found
        return make, (code, _Globals(), *more), state, None, None, set_function


class _Globals:
    """Pickles as the globals of the worker's main module."""

    def __reduce__(self) -> tuple[Any, ...]:
        return main_globals, ()


def set_function(fn: types.FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    """In the worker: give a function what it refers to.

    As with a module that is imported once, data that are there already stay: they may be what the worker has made of
    them.  Functions and classes are replaced by newer ones.
    """
    rest, slots = state
    mine = fn.__globals__
    for name, value in slots["__globals__"].items():
        if name not in mine or isinstance(value, (types.FunctionType, type)):
            mine[name] = value
    cloudpickle.cloudpickle._function_setstate(fn, (rest, {**slots, "__globals__": {}}))


def dumps_for_worker(value: Any, known: Known) -> bytes:
    """Pickle something for the workers of a pool."""
    file = io.BytesIO()
    PoolPickler(file, known).dump(value)
    return file.getvalue()


class _Nothing:
    """Workers that know nothing of the program's main module."""

    def has(self, thing: Any, qualname: str) -> bool:
        """All of it goes by value."""
        return False


def dumps_with_globals(value: Any) -> bytes:
    """Pickle something for workers that have no main module of the program's, but globals that its functions share."""
    return dumps_for_worker(value, _Nothing())


def dumps(value: Any, plan: Plan) -> bytes:
    """Pickle (`value`, what of the main module goes by value with it)."""
    file = io.BytesIO()
    pickler = Pickler(file, plan)
    pickler.dump((value, pickler.by_value))  # the second is pickled last, when it is complete
    return file.getvalue()


# What the standard library has reductions for, and is nothing but code.
_HARMLESS = (types.MethodType, types.MethodDescriptorType, types.WrapperDescriptorType, functools.partial)


class _ThingPickler(Pickler):
    """For one function or class that nobody has asked for: nothing that belongs to processes comes along."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in ForkingPickler._extra_reducers and type(obj) not in _HARMLESS:  # type: ignore[attr-defined]
            raise TypeError("not without being asked for")
        return super().reducer_override(obj)


class _Short(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > THING_SIZE:
            raise OverflowError("too long")
        return super().write(data)


def dumps_for_parent(value: Any) -> bytes:
    """Pickle a result.  What this process has of the main module it has from its parent, which knows it by its name."""
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception:
        file = io.BytesIO()
        Pickler(file, _Here()).dump(value)
        return file.getvalue()


def things_of_main(plan: Plan) -> dict[str, bytes]:
    """The functions and classes of a main module that can't be run again, each pickled by itself, where that works."""
    main = sys.modules["__main__"]
    if plan.how:
        return {}
    found = dict(main.__things__) if isinstance(main, StandIn) else {}
    for name, value in list(main.__dict__.items()):
        if not isinstance(value, (types.FunctionType, type)) or value.__module__ not in MAIN_NAMES:
            continue
        try:
            file = _Short()
            _ThingPickler(file, plan).dump(value)
            found[name] = file.getvalue()
        except Exception:  # it refers to something that can't be pickled
            continue
    return found
