"""`share`: bytes and arrays in shared memory, which any process opens without a copy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from treadle._native import _core
from treadle.handles import reduced

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SharedBuffer", "share"]


def share(data: Any, *, readonly: bool = False) -> Any:
    """Copy `data` into shared memory once; what is returned can be sent to any process, which opens it without a copy.

    A numpy array becomes a numpy array (`SharedArray`), anything else with the buffer protocol (bytes, bytearray,
    array.array, memoryview) a `SharedBuffer`.  Either can be pickled at any time: put it into a queue, a task's
    arguments, a manager's dict.  So can parts of an array (`a[10:20]`).  All processes see the same memory, and changes
    at once; with `readonly`, all views of it refuse to be written.

    The memory is freed with its last user, however that ends: there is no name, no file and nothing to unlink.  So
    what is on its way must be loaded before the last process that has it ends: FileNotFoundError otherwise.
    MemoryError or OSError if there is none, TypeError if `data` has no bytes to share.
    """
    numpy = sys.modules.get("numpy")  # who has an array has it loaded
    if numpy is not None and isinstance(data, numpy.ndarray):
        from treadle.shared import arrays

        return arrays.share(data, readonly)
    if isinstance(data, SharedBuffer) and data.readonly == readonly:
        return data
    with memoryview(data) as view:
        if view.format == "O":
            raise TypeError("Python objects can't be shared as memory")
        segment = _core.Segment(view.nbytes)
        if view.nbytes:
            with memoryview(segment) as target, memoryview(view if view.c_contiguous else view.tobytes()) as source:
                target[: view.nbytes] = source.cast("B")
        return SharedBuffer(segment, view.nbytes, view.format, view.shape, readonly)


class SharedBuffer:
    """Bytes, or an array of numbers, in shared memory.  See `share`.

    `memory` is a memoryview of it, and since Python 3.12 the object itself has the buffer protocol.
    """

    __slots__ = ("__weakref__", "_segment", "memory")

    def __init__(
        self, segment: _core.Segment, size: int, format: str, shape: tuple[int, ...] | None, readonly: bool
    ) -> None:
        self._segment = segment
        view = memoryview(segment)[:size]
        if readonly:
            view = view.toreadonly()
        if format != "B" or shape != (size,):
            view = view.cast(format, shape) if shape and size else view.cast(format)  # type: ignore[call-overload]
        self.memory: memoryview = view

    @property
    def readonly(self) -> bool:
        """Does it refuse to be written?"""
        return self.memory.readonly

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.memory.nbytes

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, which: Any) -> Any:
        return self.memory[which]

    def __setitem__(self, which: Any, value: Any) -> None:
        self.memory[which] = value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.memory)

    def __bytes__(self) -> bytes:
        return self.memory.tobytes()

    def tobytes(self) -> bytes:
        """A copy."""
        return self.memory.tobytes()

    def __buffer__(self, flags: int, /) -> memoryview:
        return memoryview(self.memory)

    def __eq__(self, other: object) -> bool:
        return bool(self.memory == (other.memory if isinstance(other, SharedBuffer) else other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        view = self.memory
        return reduced(
            "treadle.shared.buffers:SharedBuffer", self._segment, view.nbytes, view.format, view.shape, view.readonly
        )

    def __repr__(self) -> str:
        kind = "" if self.memory.format == "B" else f" ({self.memory.format}, {self.memory.shape})"
        return f"<SharedBuffer of {self.nbytes} bytes{kind}{', read only' if self.readonly else ''}>"
