"""The file that the native core records into (`_native/board/trace.h`), read back.

It may be read at any time, also while the program goes on, and after any kill: a chunk counts from the moment at which
its head is whole, a slot from the moment at which the chunk says that it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"rdtrace1"
_CHUNK_MAGIC = b"trdchunk"

END, THREAD, MARK = 6, 7, 8  # kinds of slots that `_core.Rendering` leaves to us, as in trace.h

_HEAD = struct.Struct("<8sIIQQQQQ")
_CHUNK = struct.Struct("<8sQQIIIIIIQQ")
_SLOT = 48  # bytes
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

    token: int
    start: int  # of its process
    pid: int
    tid: int
    ended: int
    place: int  # of the first slot in the file
    slots: int  # how many


def read_head(data: memoryview | bytes) -> Head:
    """What the first page says.  Raises NotARecording."""
    if len(data) < _HEAD.size:
        raise NotARecording("it is no recording of treadle")
    magic, size, pid, monotonic, wall, _limit, _next, dropped = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise NotARecording("it is no recording of treadle")
    if size != _SLOT:
        raise NotARecording("it was recorded by another version of treadle")
    return Head(pid, monotonic, wall, dropped)


def read_chunks(data: memoryview) -> Iterator[Chunk]:
    """All chunks, in the order in which they were begun."""
    at, total = _PAGE, len(data)
    while at + _PAGE <= total:
        magic, token, start, pid, tid, size, _, used, _, ended, _ = _CHUNK.unpack_from(data, at)
        if magic != _CHUNK_MAGIC or size < _PAGE or size % _PAGE or at + size > total:
            at += _PAGE  # claimed, and not written any more
            continue
        used = min(used, (size - _CHUNK.size) // _SLOT)
        yield Chunk(token, start, pid, tid, ended, at + _CHUNK.size, used)
        at += size
