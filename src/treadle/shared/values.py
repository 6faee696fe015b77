"""Values as bytes: a pickle, and which shared objects it contains.

    pickle | number of a contained object (8 bytes) ... | how many of them (4 bytes)

so that those objects can be counted, and freed, without loading the value.
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from treadle._native import _core
from treadle.shared.store import NOTHING

if TYPE_CHECKING:
    from treadle.shared.space import Space

__all__ = ["NONE", "SCALARS", "Context", "context", "dump", "dumps", "load", "nested"]

NONE = NOTHING  # the trailer without contained objects
SCALARS = frozenset((str, int, float, bool, bytes, type(None)))
dumps = pickle.dumps
load = pickle.loads


class Context(threading.local):
    """What a proxy needs to know when it is pickled into a value, or loaded out of one."""

    space: Space | None = None
    found: list[int] | None = None  # None: not being pickled into a value of that space


context = Context()


def dump(space: Space, value: Any) -> tuple[bytes, bytes, list[int]]:
    """The pickle, its trailer, and the contained objects.  Raises what pickling raises."""
    if type(value) in SCALARS:
        return dumps(value, 5), NONE, []
    before = context.space, context.found
    found: list[int] = []
    context.space, context.found = space, found
    try:
        buffer = io.BytesIO()
        _Pickler(buffer, space).dump(value)
    finally:
        context.space, context.found = before
    data = buffer.getvalue()
    if not found:
        return data, NONE, found
    return data, struct.pack(f">{len(found)}QI", *found, len(found)), found


class _Pickler(ForkingPickler):
    """Also keeps locks, queues and buffers alive that become part of a value: they live as long as a process has them,
    and know nothing of the store."""

    def __init__(self, file: io.BytesIO, space: Space) -> None:
        super().__init__(file, 5)
        self._space = space

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, _core.Shared | _core.SharedQueue | _core.Segment):
            self._space.kept[id(thing)] = thing
        return NotImplemented


def nested(raw: bytes) -> bool:
    """Does this value contain shared objects?"""
    return not raw.endswith(NONE)
