"""Functions as bytes, and back."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from treadle.pool import main_pickling
from treadle.pool.payloads import by_name, dumps, loads


def _outer(value: int) -> Any:
    class Inner:
        def method(self) -> Any:
            return lambda: value // 0

    return Inner()


def _for_a_worker(value: Any) -> bytes:
    return main_pickling.dumps_for_worker(value, main_pickling.Inherited())


@pytest.mark.parametrize("pickled", [dumps, _for_a_worker], ids=["pool", "multiprocessing"])
def test_code_that_travels_keeps_the_name_of_its_file(pickled: Any) -> None:
    """So that tracebacks of a worker show the line, at any depth: a method's closure of a local class."""
    blob = pickled(_outer(1))
    assert not by_name(blob)
    inner = loads(blob)
    assert inner.method.__code__.co_filename == __file__
    with pytest.raises(ZeroDivisionError) as caught:
        inner.method()()
    shown = traceback.format_exception(caught.value)
    assert "return lambda: value // 0" in "".join(shown[-2:])
