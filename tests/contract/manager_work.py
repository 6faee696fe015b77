"""Keys and values for the managers' contract: importable, so that a server process can load them."""

from __future__ import annotations

import enum
from collections import namedtuple
from typing import Any, NamedTuple


class Text(str):
    """Equal whatever the case."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Point:
    """Equality and hash of its own; equal to a tuple too."""

    def __init__(self, x: int, y: int, tag: str = "") -> None:
        self.x, self.y, self.tag = x, y, tag

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Point):
            return (self.x, self.y) == (other.x, other.y)
        return (self.x, self.y) == other

    def __hash__(self) -> int:
        return hash((self.x, self.y))


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


Pair = namedtuple("Pair", "x y")


class Named(NamedTuple):
    x: int
    y: int


def negative(x: int) -> int:
    return -x


def add_one(value: Any) -> Any:
    return value + 1


def fill_dict(shared: Any, worker: int, count: int) -> None:
    """Each worker its own keys."""
    for i in range(count):
        shared[worker, i] = i


def append_all(shared: Any, worker: int, count: int) -> None:
    for i in range(count):
        shared.append((worker, i))
