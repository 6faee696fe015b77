"""Warnings of workers are shown by the program, through whatever it shows its own by."""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import Any, TextIO

from ..functions import importable_module
from ..payloads import dumps, loads
from ..reports import WARNING, Sender

Filter = tuple[str, Any, type[Warning], Any, int]


class _Later(type):
    """The type of what stands in a filter for a category of a module that is not loaded.

    A library that adds a filter of its own would else be imported by every worker, and that may take longer than
    everything else that a worker does first.  Before its module is there, nothing can be of that category.
    """

    module: str
    name: str

    def __subclasscheck__(cls, subclass: type) -> bool:
        found = _loaded(cls.module, cls.name)
        return found is not None and issubclass(subclass, found)


def _loaded(module: str, name: str) -> type[Warning] | None:
    """The category of that name, if its module is loaded."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _category(module: str, name: str) -> type[Warning]:
    """In the worker: that category, or what stands for it."""
    later: Any = _Later
    return _loaded(module, name) or later(name, (Warning,), {"module": module, "name": name})


def settings() -> list[bytes]:
    """In the program: its filters, each for itself: a category may be of a kind that can't travel."""
    found = []
    for entry in list(warnings.filters):
        category: Any
        action, message, category, module, line = entry
        try:
            if _by_name(category):  # `dumps` would suspect a filter that names the main module in its pattern
                name = [category.__module__, category.__qualname__]
                found.append(pickle.dumps((action, message, name, module, line)))
            else:
                found.append(dumps(tuple(entry)))
        except Exception:
            continue
    return found


def _by_name(category: object) -> bool:
    """Is it found by its name everywhere?"""
    return (
        isinstance(category, type)
        and importable_module(category.__module__)
        and _loaded(category.__module__, category.__qualname__) is category
    )


def arrive(values: list[bytes], sender: Sender) -> None:
    """In the worker: the program's filters; what they let through is sent."""
    filters: list[Filter] = []
    for blob in values:
        try:
            action, text, category, module, line = loads(blob)
        except Exception:  # a category of a module that this process can't import
            continue
        filters.append((action, text, _category(*category) if isinstance(category, list) else category, module, line))
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():  # tells the C side that they have changed
        pass
    original = warnings.showwarning

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None:
            try:
                if sender.send(WARNING, _pack(message, category, filename, lineno, line)):
                    return
            except Exception:
                pass  # then it is shown here
        original(message, category, filename, lineno, file, line)

    warnings.showwarning = showwarning


def _pack(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None) -> bytes:
    module = next((name for name, m in list(sys.modules.items()) if getattr(m, "__file__", None) == filename), "")
    if not module:  # as Python does where there is no module
        module = filename.removesuffix(".py") or "<unknown>"
    if line is None:
        import linecache

        line = linecache.getline(filename, lineno) or None
    values = (message, category, filename, lineno, module, line)
    try:
        return dumps(values)
    except Exception:
        return dumps((str(message), _standard(category), filename, lineno, module, line))


def _standard(category: type[Warning]) -> type[Warning]:
    """The nearest category that every Python has."""
    return next(each for each in category.__mro__ if each.__module__ == "builtins")


# What was shown already, by file: as a module's __warningregistry__, but for all workers together.
_registries: dict[str, dict[Any, Any]] = {}


def handle(message: bytes) -> None:
    """In the program: warn as if it had happened here.  So "once" and "default" mean once a program."""
    text, category, filename, lineno, module, line = loads(message)
    try:
        warnings.warn_explicit(
            text, category, filename, lineno, module, _registries.setdefault(filename, {}), None, None
        )
    except Warning:  # since that worker has begun, they are errors; but nobody could catch this one
        warnings.showwarning(text, category, filename, lineno, None, line)
