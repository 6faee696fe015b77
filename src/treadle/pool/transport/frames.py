"""The wire format of a byte stream: a fixed header and a payload."""

from __future__ import annotations

import struct

from .base import Frame

HEADER = struct.Struct("<B7xQQQQ")  # kind, seq, a, b, length of the payload in bytes
LARGE = 1 << 16  # a payload of at least this many bytes is read straight into its own buffer


def encode(kind: int, seq: int, a: int, b: int, payload: bytes) -> bytes:
    """One small frame as bytes (a large payload is better sent beside its header, uncopied)."""
    return HEADER.pack(kind, seq, a, b, len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into frames, however it was chopped up on its way."""

    def __init__(self) -> None:
        self._rest = b""
        # A large payload on its way in: its header, its buffer, and how much has arrived.
        self._header: tuple[int, int, int, int] | None = None
        self._buffer = bytearray()
        self._filled = 0

    def room(self) -> memoryview | None:
        """Where the next bytes go: into this, or (None) to `feed`."""
        return memoryview(self._buffer)[self._filled :] if self._header is not None else None

    def filled(self, count: int) -> list[Frame]:
        """So many bytes were read into `room()`."""
        self._filled += count
        if self._header is None or self._filled < len(self._buffer):
            return []
        frame: Frame = (*self._header, self._buffer)  # type: ignore[assignment]
        self._header, self._buffer, self._filled = None, bytearray(), 0
        return [frame]

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in, give the complete frames out."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        position, total = 0, len(data)
        size = HEADER.size
        unpack = HEADER.unpack_from
        while total - position >= size:
            kind, seq, a, b, length = unpack(data, position)
            start = position + size
            end = start + length
            if end > total:
                if length >= LARGE:
                    self._header = (kind, seq, a, b)
                    self._buffer = bytearray(length)
                    self._filled = total - start
                    self._buffer[: self._filled] = data[start:]
                    position = total
                break
            frames.append((kind, seq, a, b, data[start:end]))
            position = end
        self._rest = data[position:]
        return frames
