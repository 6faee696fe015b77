"""Managers: treadle's, which has no server, and the standard library's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from treadle.shared import Manager

from ..harness import Contestant, Row, Work

FORK = multiprocessing.get_context("fork")
PROCESSES = 4
KEYS = 1000


def dict_set(manager: Any) -> Work:
    """One process, a thousand keys."""
    shared = manager.dict()

    def work(count: int) -> None:
        for i in range(count):
            shared[i % KEYS] = i

    return work


def dict_get(manager: Any) -> Work:
    """One process, a thousand keys."""
    shared = manager.dict({i: i for i in range(KEYS)})

    def work(count: int) -> None:
        for i in range(count):
            shared[i % KEYS]

    return work


def dict_grow(manager: Any) -> Work:
    """New keys, and away with them."""
    shared = manager.dict()

    def work(count: int) -> None:
        for i in range(count // 2):
            shared[f"key{i}"] = {"some": "value", "n": i}
        for i in range(count // 2):
            del shared[f"key{i}"]

    return work


def dict_copy(manager: Any) -> Work:
    """All of a thousand items; an operation is one item."""
    shared = manager.dict({i: str(i) for i in range(KEYS)})

    def work(count: int) -> None:
        for _ in range(max(1, count // KEYS)):
            shared.copy()

    return work


def list_ends(manager: Any) -> Work:
    """Append and pop."""
    shared = manager.list(range(KEYS))

    def work(count: int) -> None:
        for i in range(count // 2):
            shared.append(i)
            shared.pop()

    return work


def list_get(manager: Any) -> Work:
    """By index."""
    shared = manager.list(range(KEYS))

    def work(count: int) -> None:
        for i in range(count):
            shared[i % KEYS]

    return work


def namespace(manager: Any) -> Work:
    """Set and get an attribute."""
    shared = manager.Namespace(n=0)

    def work(count: int) -> None:
        for _ in range(count // 2):
            shared.n = shared.n + 1

    return work


def many(manager: Any) -> Work:
    """Four processes, each its own keys of the same dict."""
    shared = manager.dict()

    def one(worker: int, count: int) -> None:
        for i in range(count):
            shared[worker, i % KEYS] = i

    def work(count: int) -> None:
        workers = [FORK.Process(target=one, args=(worker, count // PROCESSES)) for worker in range(PROCESSES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work


def counting(manager: Any) -> Work:
    """Four processes count in the same dict; exact, so the stdlib's needs a lock beside it."""
    shared = manager.dict(n=0)
    lock = manager.Lock()

    def ours(count: int) -> None:
        for _ in range(count):
            shared.update_value("n", _more)

    def theirs(count: int) -> None:
        for _ in range(count):
            with lock:
                shared["n"] += 1

    def work(count: int) -> None:
        target = ours if isinstance(manager, Manager) else theirs
        workers = [FORK.Process(target=target, args=(count // PROCESSES,)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work


def _more(n: int) -> int:
    return n + 1


def opened(make: Callable[[], Any], shape: Callable[[Any], Work]) -> Callable[[ExitStack], Work]:
    """A contestant with a manager of its own."""
    return lambda stack: shape(stack.enter_context(make()))


def rows() -> list[Row]:
    """The rows of the issue that asked for this part, and more."""

    def row(title: str, count: int, shape: Callable[[Any], Work], share: float = 0.05, goal: float = 1) -> Row:
        return Row(
            title,
            count,
            [
                Contestant("treadle Manager", opened(Manager, shape)),
                Contestant("multiprocessing Manager", opened(FORK.Manager, shape), share),
            ],
            {"multiprocessing Manager": goal},
        )

    return [
        row("manager dict set", 100_000, dict_set, goal=15),
        row("manager dict get", 100_000, dict_get, goal=15),
        row("manager dict new key, delete it", 50_000, dict_grow),
        row("manager dict copy, an item", 500_000, dict_copy, 1),
        row("manager list append, pop", 50_000, list_ends),
        row("manager list get", 100_000, list_get),
        row("manager namespace set, get", 50_000, namespace),
        row("manager dict set, 4 processes", 50_000, many, 0.2),
        row("manager dict count, 4 processes", 20_000, counting, 0.2),
    ]
