"""What a user can reach has a docstring: each public class, function, method and property of ours."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle import multiprocessing

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
FACES = [
    "treadle", "treadle.engines", "treadle.errors", "treadle.threading", "treadle.queue", "treadle.waiting",
    "treadle.joblib", "treadle.progress", "treadle.stand_ins", "treadle.diagnose", "treadle.testing.leaks",
    "treadle.futures", "treadle.futures.process", "treadle.futures.thread",
    "treadle.futures.waits",
    "treadle.multiprocessing", *(f"treadle.multiprocessing.{name}" for name in vars(multiprocessing)["_SUBMODULES"]),
]  # fmt: skip
# No face names these, but what faces return is made of them.
BEHIND = [
    "treadle.sync.shared", "treadle.queues.local", "treadle.queues.shared", "treadle.queues.receipts",
    "treadle.shared", "treadle.shared.locks", "treadle.shared.raw",
    "treadle.pool.amaps", "treadle.pool.astreams", "treadle.pool.future", "treadle.pool.inbox", "treadle.pool.maps",
    "treadle.pool.pool", "treadle.pool.stats", "treadle.pool.streams",
    "treadle.multiprocessing.async_result", "treadle.multiprocessing.contexts", "treadle.multiprocessing.imap",
    "treadle.multiprocessing.processes",
]  # fmt: skip
# What has a docstring of its own.  Plain fields have none: the class says what they are.
DESCRIBED = (
    property, classmethod, staticmethod, types.FunctionType, types.MethodDescriptorType, types.GetSetDescriptorType,
)  # fmt: skip


def is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", None) or "").partition(".")[0] == "treadle"


def things_of(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """What of ours it offers: what it lists, or, if it has no list, what it defines."""
    listed = getattr(module, "__all__", None)
    for name in listed or dir(module):
        thing = getattr(module, name, None)  # some of the names are there on newer Pythons only
        if name.startswith("_") or not (inspect.isclass(thing) or inspect.isroutine(thing)) or not is_ours(thing):
            continue
        if listed or thing.__module__ == module.__name__:
            yield f"{module.__name__}.{name}", thing


def public_things() -> dict[str, Any]:
    """Everything of ours by the name that a user knows it by, once each."""
    found: dict[int, tuple[str, Any]] = {}
    for module in map(importlib.import_module, FACES + BEHIND):
        for name, thing in things_of(module):
            found.setdefault(id(thing), (name, thing))
    for page in sorted((ROOT / "docs/api").glob("*.md")):
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.M):
            home, _, last = name.rpartition(".")
            try:
                thing = getattr(importlib.import_module(home), last)
            except ImportError as error:
                assert error.name in ("dask", "distributed", "ray"), name  # an engine for a cluster, which is not here
                continue
            if inspect.isclass(thing) or inspect.isroutine(thing):
                found.setdefault(id(thing), (name, thing))
    return dict(found.values())


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that it, or a base of ours, defines."""
    for name in dir(cls):
        home = next((base for base in cls.__mro__ if name in vars(base)), None)
        if not name.startswith("_") and home is not None and is_ours(home) and isinstance(vars(home)[name], DESCRIBED):
            yield name, vars(home)[name]


def without(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        if not inspect.getdoc(thing):
            yield name
        return
    if not vars(thing).get("__doc__"):
        yield f"{name} (a class says itself what it is)"
    for member, value in members(thing):
        if not (inspect.getdoc(value) or inspect.getdoc(getattr(thing, member))):
            yield f"{name}.{member}"


def test_it_sees_what_is_there() -> None:
    things = public_things()
    assert {"treadle.map", "treadle.threading.Lock", "treadle.shared.DictProxy"} <= set(things)
    assert "treadle.threading.local" not in things, "the standard library's"
    assert {"acquire", "release"} <= {name for name, _ in members(treadle.threading.Lock)}
    assert "put" in dict(members(treadle.queue.PriorityQueue)) and "get" in dict(members(treadle.queue.PriorityQueue))

    class Bare:
        def said(self) -> None:
            """It says something."""

        def unsaid(self) -> None:
            pass

    Bare.__module__ = "treadle.nowhere"
    assert list(without("Bare", Bare)) == ["Bare (a class says itself what it is)", "Bare.unsaid"]


def test_everything_public_has_a_docstring() -> None:
    missing = {line for name, thing in public_things().items() for line in without(name, thing)}
    assert not missing, "\n".join(sorted(missing))


def test_docstrings_are_for_people() -> None:
    """A function in C whose docstring begins with another one's signature shows it raw, and has no signature itself."""
    raw = [
        f"{name}.{member}"
        for name, thing in public_things().items()
        if inspect.isclass(thing)
        for member, value in members(thing)
        if "\n--\n" in (inspect.getdoc(value) or "")
    ]
    assert not raw, raw
