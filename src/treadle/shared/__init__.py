"""Data that several processes change: managers without a server, buffers, values and arrays.  See README.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from treadle.shared.buffers import SharedBuffer, share
    from treadle.shared.cells import ArrayProxy, ValueProxy
    from treadle.shared.dicts import DictProxy, Namespace, NamespaceProxy
    from treadle.shared.lists import ListProxy
    from treadle.shared.manager import Manager
    from treadle.shared.proxy import BaseProxy
    from treadle.shared.sets import SetProxy

# Imported when they are first used: buffers and values need no LMDB.
_HOMES = {
    **dict.fromkeys(("SharedBuffer", "share"), "buffers"),
    **dict.fromkeys(("ArrayProxy", "ValueProxy"), "cells"),
    **dict.fromkeys(("DictProxy", "Namespace", "NamespaceProxy"), "dicts"),
    "ListProxy": "lists",
    "Manager": "manager",
    "BaseProxy": "proxy",
    "SetProxy": "sets",
}

__all__ = [
    "ArrayProxy", "BaseProxy", "DictProxy", "ListProxy", "Manager", "Namespace", "NamespaceProxy", "SetProxy",
    "SharedBuffer", "ValueProxy", "share",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
