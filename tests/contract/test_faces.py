"""The faces have every public name of the modules that they stand in for, with the same signatures."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing as stdlib_multiprocessing
import pkgutil
import queue as stdlib_queue
import threading as stdlib_threading

import pytest

from treadle import multiprocessing, queue, threading

PAIRS = [(threading, stdlib_threading), (queue, stdlib_queue), (multiprocessing, stdlib_multiprocessing)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["threading", "queue", "multiprocessing"])
def test_every_name(ours, theirs) -> None:
    assert set(theirs.__all__) <= set(ours.__all__)
    for name in ours.__all__:
        getattr(ours, name)


@pytest.mark.parametrize("name", ["Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier",
                                  "Thread", "Timer"])  # fmt: skip
def test_every_method_takes_the_same_arguments(name: str) -> None:
    theirs = getattr(stdlib_threading, name)
    theirs = theirs if isinstance(theirs, type) else type(theirs())
    ours = getattr(threading, name)
    for method in dir(theirs):
        if method.startswith("_"):
            continue
        assert hasattr(ours, method), f"{name}.{method} is missing"
        try:
            wanted = inspect.signature(getattr(theirs, method))
        except (TypeError, ValueError):
            continue
        if name in ("Lock", "RLock"):
            continue  # older versions describe theirs as (*args, **kwargs)
        have = inspect.signature(getattr(ours, method))
        if "args" in have.parameters:
            continue
        for parameter in wanted.parameters.values():
            assert parameter.name in have.parameters, f"{name}.{method}({parameter.name}=) is missing"
            assert have.parameters[parameter.name].default == parameter.default


def test_assignments_reach_the_standard_library() -> None:
    before = stdlib_threading.excepthook

    def hook(args) -> None:
        pass

    threading.excepthook = hook
    try:
        assert stdlib_threading.excepthook is hook
        assert threading.excepthook is hook
    finally:
        threading.excepthook = before
    assert stdlib_threading.excepthook is before


def test_the_main_thread_is_a_thread() -> None:
    assert isinstance(threading.main_thread(), threading.Thread)
    assert not isinstance(threading.main_thread(), threading.Timer)
    assert not isinstance(object(), threading.Thread)


SUBMODULES = [
    module.name.removeprefix("multiprocessing.")
    for module in pkgutil.walk_packages(stdlib_multiprocessing.__path__, "multiprocessing.")
    if "win32" not in module.name
]


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_of_multiprocessing(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"treadle.multiprocessing.{name}")
    for each in [*theirs.__all__, *(n for n in vars(theirs) if not n.startswith("__"))]:
        getattr(ours, each)
    if "." not in name:
        assert getattr(multiprocessing, name) is ours
    if ours is theirs:
        return
    for each in theirs.__all__:  # what is ours takes the same arguments
        mine, other = getattr(ours, each), getattr(theirs, each)
        if mine is not other and inspect.isclass(other):
            same_methods(mine, other)


def same_methods(mine: type, other: type) -> None:
    for method, function in inspect.getmembers(other, inspect.isfunction):
        if method.startswith("_"):
            continue
        assert hasattr(mine, method), f"{mine}.{method} is missing"
        try:
            have = inspect.signature(getattr(mine, method)).parameters
        except ValueError:  # a method in C without a signature
            continue
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.name in have or "args" in have, f"{mine}.{method}({parameter.name}=) is missing"


CONTEXT_METHODS = [n for n in dir(stdlib_multiprocessing.get_context("spawn")) if not n.startswith("_")]


@pytest.mark.parametrize("name", CONTEXT_METHODS)
def test_contexts_of_multiprocessing(name: str) -> None:
    for method in ("fork", "spawn", "forkserver"):
        theirs = getattr(stdlib_multiprocessing.get_context(method), name)
        ours = getattr(multiprocessing.get_context(method), name)
        if inspect.isclass(theirs):
            assert issubclass(ours, theirs)
            if issubclass(theirs, stdlib_multiprocessing.process.BaseProcess):
                same_methods(ours, theirs)
        elif callable(theirs):
            have = inspect.signature(ours).parameters
            for parameter in inspect.signature(theirs).parameters.values():
                assert parameter.name in have, f"{name}({parameter.name}=) is missing"
                assert have[parameter.name].default == parameter.default


def test_assignments_to_submodules_reach_the_standard_library() -> None:
    assert multiprocessing.connection is stdlib_multiprocessing.connection
    assert multiprocessing.process.current_process() is stdlib_multiprocessing.current_process()
    assert multiprocessing.SUBDEBUG == stdlib_multiprocessing.SUBDEBUG
    with pytest.raises(AttributeError, match="nothing_like_it"):
        multiprocessing.nothing_like_it
