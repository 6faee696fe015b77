"""Functions for the jobs of the tests."""

from __future__ import annotations

import math
from typing import Any

not_a_function = 42


def double(x: Any) -> Any:
    return x * 2


def same(x: Any) -> Any:
    return x


def fails_on_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def not_json(x: Any) -> Any:
    return {"set": {1, 2}, "nan": math.nan, "deep": _deep()}.get(x, x)


def _deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def changes_its_item(x: dict[str, Any]) -> int:
    x.clear()
    return 1


async def waits(x: Any) -> Any:
    return x


def yields(x: Any) -> Any:
    yield x


class Shop:
    @staticmethod
    def price(x: int) -> int:
        return x + 100
