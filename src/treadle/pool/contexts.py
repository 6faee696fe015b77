"""The context variables of whoever submits a task, on their way to where it runs.

In a thread a task runs in a copy of the context of its submit.  Into another process each variable travels by itself:
one that is a global of an importable module (or an attribute of such a global) is found there by name, any other one
stands there as a variable of the same name, also for the functions that are pickled by value and refer to it.  A
variable whose value can't be pickled stays at home.
"""

from __future__ import annotations

import logging
import pickle
import sys
from contextvars import Context, ContextVar, copy_context
from typing import Any

from . import payloads
from .functions import Function, importable_module
from .payloads import PLAIN, describe, dumps, loads

# Where a variable is found in another process: (module, name, attribute or ""); or itself, pickled by value.
Place = tuple[str, str, str] | bytes

logger = logging.getLogger("treadle")


def current() -> Context | None:
    """A copy of the calling thread's context; None if no variable is set in it."""
    context = copy_context()
    return context if len(context) else None


class Runner:
    """Runs one task after the other in one thread, each in a context of its own.

    What a task sets is gone with it; what the thread had set before its first task (an initializer, say) every task
    finds.  Used by its own thread only.
    """

    def __init__(self) -> None:
        self._base = copy_context()
        # Invariant: it has what `_base` has, and nothing else.
        self._clean = self._base.copy()

    def enter(self, submitted: Context | None) -> Context:
        """The context to call a task's function in; None: no variable was set at its submit.  Then `leave` follows."""
        return self._clean if submitted is None else self._over_base(submitted)

    @property
    def plain(self) -> bool:
        """Had the thread set nothing?  Then a task without a context of its own needs none but an empty one."""
        return not len(self._base)

    def leave(self, inside: Context) -> None:
        """The task has ended: drop what it has set."""
        if inside is self._clean and (len(inside) or len(self._base)):
            self._clean = self._base.copy()

    def give_way(self) -> None:
        """Nothing; but whoever calls a function of Python lets other threads have the interpreter if they ask."""

    def _over_base(self, context: Context) -> Context:
        """A copy of a submit-time context, with what the thread itself had set where that sets nothing."""
        inside = context.copy()
        for variable, value in self._base.items():
            if variable not in context:
                inside.run(variable.set, value)
        return inside


# -- the parent's side


class VariableTable:
    """Pickles contexts, and remembers the last one: in a loop of submits it travels once a worker.  Thread-safe.

    Both entries are replaced whole, so whoever reads them sees an old one or a new one.
    """

    def __init__(self) -> None:
        self._last: tuple[tuple[tuple[ContextVar[Any], Any], ...], bool, Function] | None = None

    def encode(self, context: Context) -> Function | None:
        """What a worker makes the context of; None: nothing of it can travel."""
        items = tuple(context.items())
        last = self._last
        if last is not None and _same(last[0], items):
            if last[1]:  # of kinds that can't change: what was pickled then is what there is now
                return last[2]
            blob = _pickle(items)
            if blob == last[2].blob:
                return last[2]
        else:
            blob = _pickle(items)
        if blob is None:
            return None
        function = Function(blob)
        self._last = items, all(type(value) in PLAIN for _, value in items), function
        return function


def _same(before: tuple[tuple[Any, Any], ...], now: tuple[tuple[Any, Any], ...]) -> bool:
    if len(before) != len(now):
        return False
    return all(a is c and b is d for (a, b), (c, d) in zip(before, now, strict=True))


def _pickle(items: tuple[tuple[ContextVar[Any], Any], ...]) -> bytes | None:
    parts = []
    for variable, value in items:
        if (id(variable), id(value)) in _immovable and _immovable[id(variable), id(value)][1] is value:
            continue
        try:
            parts.append((_place(variable), dumps(value), type(value) in PLAIN))
        except Exception as error:
            if len(_immovable) > _IMMOVABLE_KEPT:
                _immovable.clear()
            _immovable[id(variable), id(value)] = variable, value
            if variable not in _told:
                _told[variable] = None
                logger.debug("context variable %s stays out of workers: %s", variable.name, describe(error))
    return pickle.dumps(Variables(parts)) if parts else None


_IMMOVABLE_KEPT = 64
# Values that could not be pickled, so that not each submit tries it again; they are held, so an id is not reused.
_immovable: dict[tuple[int, int], tuple[ContextVar[Any], Any]] = {}
_told: dict[ContextVar[Any], None] = {}  # of these it was logged

# Places found, and for those without one, how many modules there were when it was looked for.
_places: dict[ContextVar[Any], tuple[Place | None, int]] = {}


def _place(variable: ContextVar[Any]) -> Place:
    place = _named(variable)
    return place if place is not None else dumps(variable)


def _named(variable: ContextVar[Any]) -> Place | None:
    place, modules = _places.get(variable, (None, -1))
    if place is None and modules != len(sys.modules):
        place = _search(variable)
        _places[variable] = place, len(sys.modules)
    return place


def _home(variable: ContextVar[Any]) -> tuple[Any, ...] | None:
    """For a function that refers to one: the same that its context has."""
    place = _named(variable)
    return None if place is None else (_find, (place,))


payloads.home_of_variable = _home


def _search(variable: ContextVar[Any]) -> Place | None:
    """A global of that very value, by its likely name first; then an attribute of a global."""
    modules = [(name, vars(m)) for name, m in list(sys.modules.items()) if m is not None and importable_module(name)]
    for name, scope in modules:
        if scope.get(variable.name) is variable:
            return name, variable.name, ""
    for name, scope in modules:
        for key, value in list(scope.items()):
            if value is variable:
                return name, key, ""
    for name, scope in modules:
        for key, value in list(scope.items()):
            try:
                attributes = vars(value) if not isinstance(value, type(sys)) else {}
            except Exception:
                continue
            for attribute, inner in list(attributes.items()):
                if inner is variable:
                    return name, key, attribute
    return None


# -- the worker's side


class Variables:
    """Variables with their values, as they travel."""

    __slots__ = ("_parts", "_base", "_fresh")

    def __init__(self, parts: list[tuple[Place, bytes, bool]]) -> None:
        self._parts = parts
        self._base: Context | None = None  # with those whose values can't change
        self._fresh: list[tuple[ContextVar[Any], bytes]] = []  # the others are loaded anew for each task

    @property
    def constant(self) -> bool:
        """Once it was called: would another call give the same?"""
        return not self._fresh

    def __reduce__(self) -> Any:
        return Variables, (self._parts,)

    def __call__(self) -> Context:
        """A context with these variables, and nothing else."""
        base = self._base
        if base is None:
            base = self._load()
        if not self._fresh:
            return base
        inside = base.copy()
        for variable, blob in self._fresh:
            _set(inside, variable, blob)
        return inside

    def _load(self) -> Context:
        base = Context()
        for place, blob, constant in self._parts:
            try:
                variable = _find(place)
            except Exception as error:
                logger.debug("context variable %s is not here: %s", place, describe(error))
                continue
            if constant:
                _set(base, variable, blob)
            else:
                self._fresh.append((variable, blob))
        self._base = base
        return base


def _set(context: Context, variable: ContextVar[Any], blob: bytes) -> None:
    try:
        context.run(variable.set, loads(blob))
    except Exception as error:
        logger.debug("the value of context variable %s can't be loaded: %s", variable.name, describe(error))


def _find(place: Place) -> ContextVar[Any]:
    if isinstance(place, bytes):
        variable = loads(place)
        assert isinstance(variable, ContextVar)
        return variable
    module, name, attribute = place
    found = sys.modules.get(module)
    if found is None:
        __import__(module)
        found = sys.modules[module]
    value = getattr(found, name)
    if attribute:
        value = vars(value)[attribute]
    if not isinstance(value, ContextVar):
        raise TypeError(f"{module}.{name} is a {type(value).__name__}")
    return value
