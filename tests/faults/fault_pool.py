"""The pool that all cells of a fault table use, one after the other, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fault_work as work
import pytest

from treadle import Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """One pool for all: each cell must leave it as good as new."""
    with Pool(2, engine="processes") as pool:
        assert pool.submit(abs, -1).result(30) == 1  # the cells measure how soon an error comes, not a start
        yield pool


# The leak check of each test starts with the pool's workers; those that die are replaced, which is no leak.
@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    yield


def give_bad(item: Any) -> Any:
    """A number is given back; a pair (place, way) goes wrong there."""
    if type(item) is int:
        return item
    place, way = item
    if place == "result":
        return work.Pickles(way)
    if place == "exception":
        raise work.PicklingError(way)
    if place == "unpickle exception":
        raise work.UnpicklingError(way)
    if place == "unpickle result":
        return work.Unpickles(way)
    return work.act(way)
