"""multiprocessing.Pool and ThreadPool: treadle's faces beside the standard library's own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from treadle import multiprocessing as ours
from treadle.multiprocessing import pool as our_pool

from ..harness import Contestant, Row, Work

WORKERS = 2
CHUNKS = (None, 1_000, 10_000, 50_000)  # the standard library's best depends on the machine


def identity(x: Any) -> Any:
    """The task."""
    return x


def _async(pool: Any) -> Work:
    def work(count: int) -> None:
        for result in [pool.apply_async(identity, (i,)) for i in range(count)]:
            result.get()

    return work


def _callbacks(pool: Any) -> Work:
    def work(count: int) -> None:
        found: list[int] = []
        results = [pool.apply_async(identity, (i,), callback=found.append) for i in range(count)]
        for result in results:
            result.wait()
        assert len(found) == count

    return work


def _apply(pool: Any) -> Work:
    def work(count: int) -> None:
        for i in range(count):
            pool.apply(identity, (i,))

    return work


def _map(chunk: int | None) -> Callable[[Any], Work]:
    def shape(pool: Any) -> Work:
        def work(count: int) -> None:
            assert len(pool.map(identity, range(count), chunk)) == count

        return work

    return shape


def _imap(pool: Any) -> Work:
    def work(count: int) -> None:
        assert sum(1 for _ in pool.imap(identity, range(count))) == count

    return work


def _open(kind: Any, shape: Callable[[Any], Work]) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        return shape(stack.enter_context(kind(WORKERS)))

    return open


def rows() -> list[Row]:
    """The rows of this group."""
    kinds = {
        "processes": (ours.Pool, multiprocessing.get_context("forkserver").Pool, "multiprocessing.Pool"),
        "threads": (our_pool.ThreadPool, multiprocessing.pool.ThreadPool, "ThreadPool"),
    }
    found = []
    for kind, (mine, theirs, name) in kinds.items():
        for title, shape, count in (
            ("apply_async, then every get", _async, 20_000),
            ("apply_async with callbacks", _callbacks, 20_000),
            ("apply, one after the other", _apply, 2_000),
            ("imap", _imap, 20_000),
        ):
            contestants = [Contestant("treadle", _open(mine, shape)), Contestant(name, _open(theirs, shape))]
            found.append(Row(f"{kind}: {title}", count, contestants))
        found.append(
            Row(
                f"{kind}: map over ints",
                1_000_000,
                [
                    Contestant("treadle, no chunk size", _open(mine, _map(None))),
                    *(Contestant(f"{name}, chunksize={chunk}", _open(theirs, _map(chunk))) for chunk in CHUNKS),
                ],
            )
        )
    return found
