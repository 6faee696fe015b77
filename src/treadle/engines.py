"""Engines: where a pool's tasks run, and how to add one.

treadle.Pool(engine="threads")              by name: auto, threads, processes, interpreters, inline, dask, ray
treadle.Pool(engine=MyEngine(...))          an object: a subclass of `Engine`, see there
treadle.engines.register("mine", MyEngine)  a name for it; or an entry point of the group ``treadle.engines``
treadle.engines.abilities("threads")        what an engine can do
"""

from __future__ import annotations

from typing import Any

from .pool.abilities import Abilities
from .pool.catalog import abilities, register
from .pool.engines.guest import Engine, Host, Order, Work

# `DaskEngine` and `RayEngine` are not in it: they need packages that may not be here.
__all__ = ["Abilities", "Engine", "Host", "Order", "Work", "abilities", "register"]


def __getattr__(name: str) -> Any:
    if name == "DaskEngine":
        from .pool.clusters.dask import DaskEngine

        return DaskEngine
    if name == "RayEngine":
        from .pool.clusters.ray import RayEngine

        return RayEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
