"""Submodules in which something is replaced: the rest of their names are the standard library's."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["stand_in_for"]


class _Face(ModuleType):
    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        if name in ("__path__", "__file__"):
            raise AttributeError(name)
        try:
            return getattr(self.__dict__["_stdlib"], name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *dir(self.__dict__["_stdlib"])})


def stand_in_for(name: str, stdlib: ModuleType) -> None:
    """Let the module of that name have all that `stdlib` has and it doesn't define itself."""
    module = sys.modules[name]
    module.__dict__["_stdlib"] = stdlib
    module.__class__ = _Face
