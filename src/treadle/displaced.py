"""Modules of the standard library in whose place another one stands, and how what is in them is pickled.

`import NAME` gives the other module then, so a class or function of the displaced one can't be found by its name alone.
This module imports nothing of treadle.
"""

from __future__ import annotations

import functools
import importlib
import types
from typing import Any

__all__ = ["find", "modules", "reduced"]

modules: dict[str, types.ModuleType] = {}  # by their names; only grows

_KINDS = (type, types.FunctionType, types.BuiltinFunctionType)


def reduced(obj: Any) -> tuple[Any, ...] | None:
    """What `__reduce__` would return for something that a displaced module has under its name; None for all else."""
    if not isinstance(obj, _KINDS) or (home := modules.get(getattr(obj, "__module__", None) or "")) is None:
        return None
    try:
        there = _attribute(home, obj.__qualname__)
    except AttributeError:
        return None
    return (find, (home.__name__, obj.__qualname__)) if there is obj else None


def find(module: str, qualname: str) -> Any:
    """In the process that loads it: the same, from the displaced module if there is one here too."""
    imported = importlib.import_module(module)  # first: it may be what displaces it
    return _attribute(modules.get(module, imported), qualname)


def _attribute(module: types.ModuleType, qualname: str) -> Any:
    return functools.reduce(getattr, qualname.split("."), module)
