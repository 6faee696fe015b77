"""Keys of shared dicts and sets, as bytes that are equal when the keys are, in whatever process.

`hash()` of a str differs between processes, so it can't find anything in shared memory.  A key of a builtin type is
written in one canonical way instead (`1`, `1.0` and `True` alike); keys of other types are compared with `==`, by the
index of each process (see `index.py`).
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from numbers import Number
from typing import Any

__all__ = ["MAX_BYTES", "decode", "encode", "is_plain"]

MAX_BYTES = 400  # of a key as it stands in the database (LMDB's limit is 511, ours is before the prefixes)
GENERIC = b"g"  # the first byte of a key's name that was given to it, because its type has no canonical form
_PLAIN = frozenset((str, int, bytes, type(None)))


def encode(key: Any) -> bytes | None:
    """The canonical bytes of a key; None if only `==` can tell what it is equal to.

    Equal keys that have such bytes have the same.
    """
    kind = type(key)
    if kind is str:
        try:
            data: bytes | None = b"s" + key.encode()
        except UnicodeEncodeError:
            data = b"s" + key.encode("utf-8", "surrogatepass")
    elif kind is int or kind is bool:
        data = b"i%x" % key
    elif kind is bytes:
        data = b"b" + key
    elif key is None:
        data = b"n"
    elif kind is float:
        if key.is_integer():
            data = b"i%x" % int(key)
        elif key != key:
            return None  # a NaN is equal to nothing
        else:
            data = b"f" + struct.pack(">d", key)
    else:
        data = _compound(key, kind)
    if data is not None and len(data) > MAX_BYTES:
        return b"h" + blake2b(data, digest_size=40).digest()
    return data


def _compound(key: Any, kind: type) -> bytes | None:
    if isinstance(key, tuple) and (kind is tuple or _same(key, tuple.__getitem__(key, slice(None)))):
        return _joined(b"t", key)
    if isinstance(key, frozenset) and (kind is frozenset or _same(key, frozenset(frozenset.__iter__(key)))):
        parts = [encode(part) for part in key]
        return None if None in parts else b"z" + b"".join(_measured(part) for part in sorted(parts))  # type: ignore[type-var, arg-type]
    if isinstance(key, complex) and kind is complex:
        return encode(key.real) if key.imag == 0 else _complex(key)
    exact: Any
    for base in (str, bytes):
        if isinstance(key, base):
            exact = base.__getitem__(key, slice(None))  # type: ignore[index]
            if type(exact) is base and _same(key, exact):
                return encode(exact)
    if isinstance(key, Number):
        for convert in (int, float, complex):
            try:
                exact = convert(key)  # type: ignore[call-overload, arg-type]
                if _same(key, exact):
                    return encode(exact)
            except (TypeError, ValueError, ArithmeticError):
                continue
    return None


def _complex(key: complex) -> bytes | None:
    # Each part on its own, so that -0.0 and 0.0 are alike.
    return None if key != key else _joined(b"c", (key.real, key.imag))


def _same(key: Any, exact: Any) -> bool:
    return bool(hash(key) == hash(exact) and key == exact)


def _joined(tag: bytes, parts: tuple[Any, ...]) -> bytes | None:
    found = []
    for part in parts:
        data = encode(part)
        if data is None:
            return None
        found.append(_measured(data))
    return tag + b"".join(found)


def _measured(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def is_plain(key: Any) -> bool:
    """Does `decode` make the key again from its canonical bytes (if they are not too long)?"""
    return type(key) in _PLAIN


def decode(data: bytes) -> Any:
    """The plain key with these canonical bytes."""
    tag = data[:1]
    if tag == b"s":
        return data[1:].decode("utf-8", "surrogatepass")
    if tag == b"i":
        return int(data[1:], 16)
    if tag == b"b":
        return data[1:]
    return None
