"""Keys that only `==` can tell: each process finds them in a dict of its own, which follows the store's."""

from __future__ import annotations

import pickle
import struct
from typing import Any

from treadle.shared.keys import MAX_BYTES, decode, is_plain
from treadle.shared.store import prefixed
from treadle.shared.values import dump

__all__ = ["Index", "order_record", "parse_order"]

_LENGTH = struct.Struct(">H")
_PLACE = struct.Struct(">Q")


def order_record(space: Any, key: Any, name: bytes) -> bytes:
    """The key itself, and the name under which its value is found."""
    if is_plain(key) and name[:1] != b"h" and len(name) <= MAX_BYTES:
        return b"\0" + name
    return b"\1" + _LENGTH.pack(len(name)) + name + dump(space, key)[0]


def parse_order(record: bytes) -> tuple[bytes, Any]:
    """(name, key)."""
    if record[:1] == b"\0":
        name = record[1:]
        return name, decode(name)
    end = 3 + _LENGTH.unpack_from(record, 1)[0]
    return record[3:end], pickle.loads(record[end:])


class Index:
    """All keys of one shared dict or set, hashed and compared as this process does.

    Used under the store's lock only.
    """

    def __init__(self) -> None:
        self.names: dict[Any, bytes] = {}
        self.next = 0  # Invariant: every key with a smaller place is in `names`, or was removed from the shared dict
        self.epoch = -1

    def find(self, txn: Any, prefix: bytes, epoch: int, length: int, key: Any) -> bytes | None:
        """The name of the key that is equal to `key`.  It may have been removed meanwhile."""
        if epoch != self.epoch or len(self.names) > 2 * length + 100:
            self.names.clear()
            self.next = 0
            self.epoch = epoch
        for where, record in prefixed(txn, prefix + b"o", _PLACE.pack(self.next)):
            name, other = parse_order(record)
            self.names.pop(other, None)  # an equal one that was removed
            self.names[other] = name
            self.next = _PLACE.unpack_from(where, len(prefix) + 1)[0] + 1
        return self.names.get(key)
