"""The file that the native core records into (`_native/trace.h`), read back.

It may be read at any time, also while the program goes on, and after any kill: a chunk counts from the moment at which
its head is whole, a slot from the moment at which the chunk says that it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"rdtrace1"
_CHUNK_MAGIC = b"trdchunk"

NOTHING, TASK, WAIT, SPAN, SENT, TEXT, END, THREAD, MARK = range(9)  # kinds of slots, as in trace.h
FAILED, TIMED_OUT, TIMED, INDEXED = 1, 2, 4, 8  # flags

# As `enum tl_kind` of board.h.
WAITS = (
    "", "lock", "rlock", "condition", "semaphore", "event", "join", "queue get", "queue put", "queue join", "barrier",
)  # fmt: skip

_HEAD = struct.Struct("<8sIIQQQQQ")
_CHUNK = struct.Struct("<8sQQIIIIIIQQ")
_SLOT = struct.Struct("<QQIIHHIQQ")
_PAGE = 4096  # the head's size, and what every chunk begins at a multiple of


class NotARecording(ValueError):
    """The file is none of ours, or is damaged."""


class Head(NamedTuple):
    """Of the recording.  Times are monotonic nanoseconds, but for `wall`: nanoseconds since 1970 at `monotonic`."""

    pid: int
    monotonic: int
    wall: int
    dropped: int


class Chunk(NamedTuple):
    """Slots of one thread, in the order in which they were begun."""

    at: int  # where it is in the file
    token: int
    start: int  # of its process
    pid: int
    tid: int
    number: int
    ended: int
    slots: list[tuple[int, int, int, int, int, int, int, int, int]]  # begin, end, name, where, kind, sub, flags, a, b
    places: list[int]  # of these slots in the file
    texts: dict[int, str]


def read_head(data: memoryview | bytes) -> Head:
    """What the first page says.  Raises NotARecording."""
    if len(data) < _HEAD.size:
        raise NotARecording("it is no recording of treadle")
    magic, size, pid, monotonic, wall, _limit, _next, dropped = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise NotARecording("it is no recording of treadle")
    if size != _SLOT.size:
        raise NotARecording("it was recorded by another version of treadle")
    return Head(pid, monotonic, wall, dropped)


def read_chunks(data: memoryview) -> Iterator[Chunk]:
    """All chunks, in the order in which they were begun."""
    at, total = _PAGE, len(data)
    while at + _PAGE <= total:
        magic, token, start, pid, tid, size, number, used, _, ended, _ = _CHUNK.unpack_from(data, at)
        if magic != _CHUNK_MAGIC or size < _PAGE or size % _PAGE or at + size > total:
            at += _PAGE  # claimed, and not written any more
            continue
        yield _read_chunk(data, at, token, start, pid, tid, size, number, used, ended)
        at += size


def _read_chunk(
    data: memoryview, at: int, token: int, start: int, pid: int, tid: int, size: int, number: int, used: int, ended: int
) -> Chunk:
    first = at + _CHUNK.size
    used = min(used, (size - _CHUNK.size) // _SLOT.size)
    slots = []
    places = []
    texts = {}
    skip = 0
    place = first
    for slot in _SLOT.iter_unpack(data[first : first + used * _SLOT.size]):
        if skip:
            skip -= 1
        elif slot[4] == TEXT:
            length = slot[7]
            texts[slot[2]] = bytes(data[place + _SLOT.size : place + _SLOT.size + length]).decode("utf-8", "replace")
            skip = -(-length // _SLOT.size)
        else:
            slots.append(slot)
            places.append(place)
        place += _SLOT.size
    return Chunk(at, token, start, pid, tid, number, ended, slots, places, texts)
