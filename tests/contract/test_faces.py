"""The faces have every public name of the modules that they stand in for, with the same signatures."""

from __future__ import annotations

import inspect
import queue as stdlib_queue
import threading as stdlib_threading

import pytest

from treadle import queue, threading

PAIRS = [(threading, stdlib_threading), (queue, stdlib_queue)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["threading", "queue"])
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
