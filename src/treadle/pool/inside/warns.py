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


def settings() -> list[bytes]:
    """In the program: its filters, each for itself: a category may be of a kind that can't travel."""
    found = []
    for entry in list(warnings.filters):
        try:
            found.append(pickle.dumps(tuple(entry)) if _by_name(entry[2]) else dumps(tuple(entry)))
        except Exception:
            continue
    return found


def _by_name(category: object) -> bool:
    """Is it found by its name everywhere?  `dumps` would suspect a filter that names the main module in its pattern."""
    return isinstance(category, type) and importable_module(category.__module__)


def arrive(values: list[bytes], sender: Sender) -> None:
    """In the worker: the program's filters; what they let through is sent."""
    filters: list[Filter] = []
    for blob in values:
        try:
            filters.append(loads(blob))
        except Exception:  # a category of a module that this process can't import
            continue
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
