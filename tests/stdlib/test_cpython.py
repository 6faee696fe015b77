"""CPython's own suites for the modules that our faces stand in for, each in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from suites import Suite, Suites, suites

from treadle.testing.leaks import no_leaks

pytest.importorskip("test.lock_tests", reason="this Python is installed without its test package")

__all__ = ["suites"]

FIRST = ("lock_tests", "test_queue", "test_threading", "test_threading_local", "test_sched")
FUTURES = ("future", "as_completed", "wait", "init", "shutdown", "deadlock", "thread_pool", "process_pool")
FUTURES += ("interpreter_pool",)
OFTEN = ("future", "as_completed", "init")  # half a minute; all of them take several
BY_HAND = ("wait", "shutdown")  # a minute each


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Of all of them: while one is looked at, others run."""
    with no_leaks():
        yield


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    yield


@pytest.mark.timeout(800)
@pytest.mark.parametrize("suite", [Suite((name,), 380) for name in FIRST], ids=FIRST)
def test_suite(suites: Suites, suite: Suite) -> None:
    counts = suites.counts(suite)
    assert counts["run"] > 10
    assert counts["unused_skips"] == [], "a skip without a test: take it out of skips.py"


def _futures(part: str) -> object:
    marks = [] if part in OFTEN else [pytest.mark.heavy]
    if part in BY_HAND:
        marks.append(pytest.mark.by_hand)
    if part == "interpreter_pool":
        marks.append(pytest.mark.skipif(sys.version_info < (3, 14), reason="Python has interpreters from 3.14 on"))
    return pytest.param(Suite((f"test_concurrent_futures.test_{part}", "-v"), 350), marks=marks, id=part)


@pytest.mark.timeout(800)
@pytest.mark.parametrize("suite", [_futures(part) for part in FUTURES])
def test_futures(suites: Suites, suite: Suite) -> None:
    pytest.importorskip("test.test_concurrent_futures", reason="this Python is installed without these tests")
    counts = suites.counts(suite)
    assert counts["run"] >= 10
    assert counts["unused_skips"] == [], "a skip without a test: take it out of skips.py"


def _processes(method: str, kind: str, names: tuple[str, ...] = (), seconds: int = 500) -> Suite:
    arguments = ("processes_suite", "--method", method, "--kind", kind, "-v", *(f"-k={name}" for name in names))
    return Suite(arguments, seconds)


QUICK = ("TestProcess", "TestSubclassingProcess", "TestLock", "TestSemaphore", "TestEvent", "TestQueue", "TestValue")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("suite", [_processes("forkserver", "processes", QUICK, 180)], ids=[""])
def test_processes_quickly(suites: Suites, suite: Suite) -> None:
    """A part of CPython's tests for multiprocessing; the heavy test below has all of them."""
    assert suites.counts(suite)["run"] > 10


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "suite",
    [_processes("forkserver", kind, ("TestPool",), 180) for kind in ("processes", "threads")],
    ids=lambda s: s[0][4],
)
def test_pools_quickly(suites: Suites, suite: Suite) -> None:
    """CPython's tests for pools."""
    assert suites.counts(suite)["run"] > 10


def _cases() -> list[object]:
    """All of it takes a quarter of an hour: what the start methods share is run with one of them, the rest by hand."""
    cases: list[object] = []
    for method in ("forkserver", "spawn", "fork"):
        for kind in ("processes", "manager", "threads", "rest"):
            often = method == "forkserver" or kind == "processes"
            marks = () if often else pytest.mark.by_hand
            cases.append(pytest.param(_processes(method, kind), marks=marks, id=f"{method}-{kind}"))
    return cases


@pytest.mark.heavy
@pytest.mark.timeout(1100)
@pytest.mark.parametrize("suite", _cases())
def test_processes(suites: Suites, suite: Suite) -> None:
    assert suites.counts(suite)["run"] > 10
