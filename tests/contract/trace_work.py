"""Functions for the tests of recordings, and how these are read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import treadle


def events(path: Path, **like: Any) -> list[dict[str, Any]]:
    """The events of a finished trace that have these fields."""
    return select(json.loads(path.read_text()), **like)


def select(trace: Any, **like: Any) -> list[dict[str, Any]]:
    return [e for e in trace["traceEvents"] if all(e.get(key) == value for key, value in like.items())]


def process_names(path: Path) -> dict[int, str]:
    return {e["pid"]: e["args"]["name"] for e in events(path, name="process_name")}


def thread_names(path: Path) -> dict[tuple[int, int], str]:
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in events(path, name="thread_name")}


def double(x: int) -> int:
    return 2 * x


def nap(x: int) -> int:
    time.sleep(0.002)
    return x


def thrice(x: int) -> Iterator[int]:
    for _ in range(3):
        time.sleep(0.002)
        yield x


def sad(x: int) -> int:
    raise ValueError(x)


def inner_pool(x: int) -> list[int]:
    """A pool in a worker of a pool."""
    with treadle.Pool(1, "processes") as pool:
        return list(pool.map(double, [x, x + 1]))


def traced_pool(path: str) -> int:
    """A trace of its own, in a process of a program that records already."""
    with treadle.Pool(1, "threads", trace=path) as pool:
        return sum(pool.map(double, [1, 2]))
