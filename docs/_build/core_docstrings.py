"""For the API reference: the docstrings of what is written in C, which stand in no source of Python."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import griffe

CORE = "_native._core"


class CoreDocstrings(griffe.Extension):
    """Gives classes and methods of the core, as the stub file lists them, the docstrings that they have at run time."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """The package's modules have been read."""
        if pkg.name == "treadle":
            self._add(pkg[CORE], importlib.import_module(f"treadle.{CORE}"))

    def _add(self, known: griffe.Object, real: object) -> None:
        for name, member in known.members.items():
            found = getattr(real, name, None)
            if member.is_alias or found is None:
                continue
            text = getattr(found, "__doc__", None)
            if member.docstring is None and isinstance(text, str):
                member.docstring = griffe.Docstring(inspect.cleandoc(text), parent=member)
            if member.is_class:
                self._add(member, found)
