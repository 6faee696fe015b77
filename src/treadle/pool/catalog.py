"""The engines that a pool may be made with, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from ..errors import EngineMissing, Unsupported

if TYPE_CHECKING:  # whoever needs an engine loads it: most programs never need these
    from .abilities import Abilities
    from .engines.guest import Engine

LOCAL = ("auto", "threads", "processes", "interpreters", "inline")
PROCESSES = ("auto", "processes")  # engines that start processes here
CLUSTERS = {"dask": "distributed", "ray": "ray"}  # and what each is made of
GROUP = "treadle.engines"  # entry points: a name, and a function or class that makes an `Engine`

_registered: dict[str, Callable[..., Engine]] = {}  # only single operations, which are atomic


def register(name: str, factory: Callable[..., Engine]) -> None:
    """From now on, ``Pool(engine=name)`` is ``Pool(engine=factory())``; in this process.

    `factory` is called for each pool, with ``address=`` if the pool has one.  A package says the same for all programs
    with an entry point of the group ``treadle.engines``.  Raises ValueError for a name that is taken by treadle.
    """
    if name in LOCAL or name in CLUSTERS:
        raise ValueError(f"{name!r} is an engine of treadle's own")
    _registered[name] = factory


def abilities(engine: str | Engine) -> Abilities:
    """What an engine can do, by its name (but ``"auto"``, which is another one each time) or as an object."""
    check(engine)
    if not isinstance(engine, str):
        return engine.abilities
    if engine == "auto":
        raise ValueError("what 'auto' can do depends on what it chooses")
    if engine == "threads":
        from .engines.threads import ThreadEngine

        return ThreadEngine.abilities
    if engine == "processes":
        from .engines.processes import ProcessEngine

        return ProcessEngine.abilities
    if engine == "interpreters":
        from .engines.interpreters import InterpreterEngine

        return InterpreterEngine.abilities
    if engine == "inline":
        from .engines.inline import InlineEngine

        return InlineEngine.abilities
    made = make(engine)
    assert made is not None
    return made.abilities


def check(engine: Any, address: Any = None) -> None:
    """Raise ValueError for an engine that is not known, or has no address, EngineMissing for one that is not here."""
    if _is_engine(engine):
        if address is not None:
            raise ValueError("an address is for an engine that is named; this one is an object")
        return
    if isinstance(engine, str) and engine in LOCAL:
        if address is not None:
            raise ValueError(f"engine {engine!r} runs on this machine and has no address")
        return
    if isinstance(engine, str) and engine in CLUSTERS:
        from importlib.util import find_spec

        if find_spec(CLUSTERS[engine]) is None:
            raise EngineMissing(
                f"engine {engine!r} needs {CLUSTERS[engine]}, which is not installed: pip install 'treadle[{engine}]'",
                name=CLUSTERS[engine],
            )
        return
    if not isinstance(engine, str) or _factory(engine) is None:
        names = ", ".join([*LOCAL, *CLUSTERS, *_registered])
        raise ValueError(f"engine must be one of {names}, or an Engine, not {engine!r}")


def make(engine: Any, address: Any = None) -> Engine | None:
    """The engine of the public interface that is meant; None for one of this machine's.  After `check`."""
    if not isinstance(engine, str):
        assert _is_engine(engine)
        return engine
    if engine in LOCAL:
        return None
    if engine == "dask":
        from .clusters.dask import DaskEngine

        return DaskEngine(address)
    if engine == "ray":
        from .clusters.ray import RayEngine

        return RayEngine(address)
    factory = _factory(engine)
    assert factory is not None
    made = factory() if address is None else factory(address=address)
    if not _is_engine(made):
        raise TypeError(f"the engine {engine!r} is made as a {type(made).__name__}, which is no treadle.engines.Engine")
    return made


def refuse_start_method(engine: Any, start_method: Any) -> None:
    """Raise `Unsupported` for a start method where this machine starts nothing."""
    if start_method is not None and not (isinstance(engine, str) and engine in PROCESSES):
        name = engine if isinstance(engine, str) else engine.name
        raise Unsupported(f"engine {name!r} has no start_method: it starts no processes here", name, "start_method")


def _is_engine(value: Any) -> TypeGuard[Engine]:
    if isinstance(value, str) or value is None:
        return False
    from .engines.guest import Engine

    return isinstance(value, Engine)


def _factory(name: str) -> Any:
    factory = _registered.get(name)
    if factory is None:
        from importlib.metadata import entry_points

        for found in entry_points(group=GROUP, name=name):
            factory = _registered.setdefault(name, found.load())
    return factory
