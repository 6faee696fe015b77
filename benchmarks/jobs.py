"""What real work consists of: functions over one file, one request, some rows.

In a module of their own, with few imports, as the user of a pool would have them: each worker imports it.
"""

from __future__ import annotations

import ast
import hashlib
import http.client
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parse(path: str) -> int:
    """How many nodes a source has."""
    try:
        return sum(1 for _ in ast.walk(ast.parse(Path(path).read_bytes())))
    except SyntaxError:
        return 0


def digest(path: str) -> str:
    """Of one file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def fetch(address: tuple[str, int]) -> int:
    """One request, on a connection of its own."""
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", "/")
    length = len(connection.getresponse().read())
    connection.close()
    return length


SIDE = 5000  # numbers in a row, and rows: 200 MB
BLOCK = 20  # rows a task


def row_norms(array: Any, start: int) -> float:
    """The sum of the norms of some rows."""
    import numpy

    return float(numpy.sqrt((array[start : start + BLOCK] ** 2).sum(axis=1)).sum())


_array: Any = None  # for the pools that hand over nothing but what a function's module has


def bind(array: Any) -> None:
    """Before a fork: what comes after it has the array."""
    global _array
    _array = array


def of_global(start: int) -> float:
    """Of the array that is bound here."""
    return row_norms(_array, start)


def attach(name: str, shape: tuple[int, ...]) -> None:
    """An initializer: the array is in a block of shared memory that has a name."""
    import multiprocessing.shared_memory

    import numpy

    global _array, _segment
    _segment = multiprocessing.shared_memory.SharedMemory(name=name)
    _array = numpy.ndarray(shape, buffer=_segment.buf)


TRIALS = 20_000  # points a task


def closure(trials: int) -> Callable[[int], int]:
    """What a task is when somebody writes it: a function within a function."""

    def inside(seed: int) -> int:
        rng = random.Random(seed).random
        return sum(rng() ** 2 + rng() ** 2 < 1 for _ in range(trials))

    return inside


def named(seed: int) -> int:
    """For who can't have a closure: a function of a module, with a global."""
    return closure(TRIALS)(seed)
