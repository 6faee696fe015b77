from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.cli.job.codec import ResultNotJson, decode, encode, encode_result

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_every_value_comes_back_and_is_one_line_of_real_json(value: Any) -> None:
    line = encode(value)
    assert b"\n" not in line
    assert decode(line.decode()) == value == json.loads(line)
    assert encode(decode(line.decode())) == line


def test_a_file_name_that_is_not_utf8_comes_back() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert encode(name) == rb'"caf\udce9"'
    assert decode(encode(name).decode()) == name


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "[1, NaN]", "1" * 5000, "[" * 100_000, ""])
def test_what_is_not_strict_json_is_refused(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        decode(text)


@pytest.mark.parametrize("result", [math.nan, [math.inf], {1, 2}, b"bytes", {(1, 2): 3}, object()])
def test_a_result_that_is_not_json_says_what_it_is(result: object) -> None:
    with pytest.raises(ResultNotJson) as caught:
        encode_result(result)
    assert type(result).__name__ in str(caught.value)
    assert "is not JSON" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_a_result_that_contains_itself() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ResultNotJson, match="Circular"):
        encode_result(loop)
