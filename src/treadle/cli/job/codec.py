"""The one JSON dialect of input, output and journal: strict JSON in UTF-8.

Strict means that NaN and the infinities, which Python's `json` reads and writes but JSON does not have, are errors
in a result and plain text in an input.  A string with lone surrogates (a file name that is not UTF-8) is written with
``\\udcXX`` escapes, so it comes back as the same string.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from treadle.errors import TreadleError, shorten

__all__ = ["ResultNotJson", "encode", "encode_result", "decode", "decode_prefix", "shown"]


class ResultNotJson(TreadleError, TypeError):
    """The function returned something that JSON can't express, so it can't be written to the output."""


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {shorten(text, 30)} is too large")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)

_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]


def encode(value: Any) -> bytes:
    """`value` as JSON on one line.  Raises TypeError, ValueError or RecursionError where JSON has no word for it."""
    if type(value) is int:  # so common as an input that it is worth a line
        return b"%d" % value
    # A lone surrogate can only stand inside a JSON string, where "backslashreplace" writes just what JSON wants.
    return _encoder.encode(value).encode("utf-8", "backslashreplace")


def encode_result(result: Any) -> bytes:
    """`encode`, for what a function returned.  Raises ResultNotJson, which says what is wrong with which type."""
    try:
        return encode(result)
    except (TypeError, ValueError, RecursionError) as error:
        what = f"the result {shorten(result, 60)} (a {type(result).__name__}) is not JSON: {error}"
        raise ResultNotJson(what) from None


def decode(text: str) -> Any:
    """The value of JSON text.  Raises ValueError or RecursionError."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else _decoder.decode(text)  # space around it, or an error to be described


def decode_prefix(text: str, start: int) -> tuple[Any, int]:
    """The value of the JSON that begins at text[start], and where it ends.  Raises ValueError or RecursionError."""
    return _decoder.raw_decode(text, start)


def shown(encoded: bytes, limit: int = 80) -> str:
    """Encoded JSON for a message: at most `limit` characters."""
    text = encoded.decode("utf-8")
    return text if len(text) <= limit else text[: limit - 3] + "..."
