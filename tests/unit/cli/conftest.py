"""A stand-in for `treadle.map` that runs every item here and now, so that these tests need no pool."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle.cli import main
from treadle.errors import TaskFailure


@dataclass
class Outcome:
    index: int
    item: Any
    ok: bool
    value: Any = None
    error: Any = None


class FakeMap:
    """One at a time, in order; `swap` yields every two outcomes in the wrong order, as --unordered may."""

    def __init__(self, fn: Callable[..., Any], items: Iterable[Any], *, retries: int = 0, swap: bool = False) -> None:
        self.fn = fn
        self.items = items
        self.tries = 1 + retries
        self.swap = swap
        self.decision: str | None = None
        self.closed = False

    def __enter__(self) -> FakeMap:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def outcomes(self) -> Iterator[Outcome]:
        held: list[Outcome] = []
        for index, item in enumerate(self.items):
            held.append(self.one(index, item))
            if not self.swap or len(held) == 2:
                yield from reversed(held)
                held.clear()
        yield from held

    def one(self, index: int, item: Any) -> Outcome:
        self.decision = "fake: for tests"
        for attempt in range(1, self.tries + 1):
            try:
                return Outcome(index, item, True, value=self.fn(item))
            except Exception as error:
                error.task = TaskFailure(item, index, attempt, os.getpid(), traceback.format_exc())
                outcome = Outcome(index, item, False, error=error)
        return outcome


@pytest.fixture
def fake_map(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces `treadle.map`; the list gets the options of each call."""
    calls: list[dict[str, Any]] = []

    def fake(fn: Callable[..., Any], items: Iterable[Any], **options: Any) -> FakeMap:
        calls.append(options)
        return FakeMap(fn, items, retries=options.get("retries", 0), swap=not options.get("ordered", True))

    monkeypatch.setattr(treadle, "map", fake, raising=False)
    return calls


@pytest.fixture
def fake_iterator() -> type[FakeMap]:
    """What the fake `treadle.map` returns, to be made worse."""
    return FakeMap


@dataclass
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def empty_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The test runs in an empty directory, and the modules that it imports from there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}/"):
            del sys.modules[name]


@pytest.fixture
def run(fake_map: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], empty_directory: None) -> Callable[..., Ran]:
    """Runs `treadle ARGS` in this process, in an empty directory, on the fake."""

    def run(*args: object) -> Ran:
        code = main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run
