"""Engines as parameters of tests: some of them are not everywhere, and some are heavy."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

CLUSTERS = {"dask": "distributed", "ray": "ray"}  # and what they need


def engines(*names: str, by_hand: tuple[str, ...] = ()) -> list[Any]:
    """The engines of these names, for a test that takes one: some of them are not everywhere.

    Those in `by_hand` are tried before a release: on Ray a worker is a process that loads Ray, so a test takes seconds.
    """
    found: list[Any] = []
    for name in names:
        marks: list[pytest.MarkDecorator] = []
        if name == "interpreters":
            marks.append(pytest.mark.skipif(sys.version_info < (3, 14), reason="Python has them from 3.14 on"))
        if name in CLUSTERS:
            marks += [pytest.mark.heavy, pytest.mark.timeout(120)]
            marks += [pytest.mark.by_hand] * (name in by_hand)
            missing = importlib.util.find_spec(CLUSTERS[name]) is None
            marks.append(pytest.mark.skipif(missing, reason=f"treadle[{name}] is not installed"))
        found.append(pytest.param(name, marks=marks))
    return found
