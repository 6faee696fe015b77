"""numpy arrays in shared memory.  Imported only where numpy is."""

from __future__ import annotations

from typing import Any

import numpy as np

from treadle._native import _core
from treadle.handles import reduced

__all__ = ["SharedArray", "rebuild", "share"]


class SharedArray(np.ndarray):  # type: ignore[misc, type-arg, unused-ignore]
    """A numpy array in shared memory.  See `treadle.share`.

    Its views, as far as they lie in the same memory, are sent as it is; what is computed from it is an ordinary array.
    """

    # Set on every view: the memory, if it lies in there.
    _segment: _core.Segment | None

    def __array_finalize__(self, parent: Any) -> None:
        self._segment = getattr(parent, "_segment", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:  # an operation in place
            return array
        return array[()] if return_scalar or array.shape == () else array.view(np.ndarray)

    def __getitem__(self, which: Any) -> Any:
        found = super().__getitem__(which)
        # What indexing has copied lies elsewhere.
        return found.view(np.ndarray) if isinstance(found, SharedArray) and found._offset() is None else found

    def _offset(self) -> int | None:
        """Where it begins in the shared memory; None if it isn't there."""
        if self._segment is None:
            return None
        whole = np.frombuffer(memoryview(self._segment), np.uint8)
        offset = _address(self) - _address(whole)
        reach = [(length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True)]
        low = offset + sum(step for step in reach if step < 0)
        high = offset + sum(step for step in reach if step > 0) + self.itemsize
        inside = 0 <= offset <= whole.size if self.size == 0 else low >= 0 and high <= whole.size
        return offset if inside else None

    def __reduce_ex__(self, protocol: Any) -> Any:
        offset = self._offset()
        if offset is None:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        return reduced(
            "treadle.shared.arrays:rebuild", self._segment, offset, self.shape, self.dtype, self.strides,
            self.flags.writeable,
        )  # fmt: skip

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(4)


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def share(array: Any, readonly: bool) -> SharedArray:
    """A copy of the array in shared memory; the array itself if it already is there."""
    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} can't be shared as memory")
    if isinstance(array, SharedArray) and array._offset() is not None and array.flags.writeable != readonly:
        return array
    segment = _core.Segment(max(1, array.nbytes))
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    shared = _view(segment, 0, array.shape, array.dtype, None, order)
    shared[...] = array
    if readonly:
        shared.flags.writeable = False
    return shared


def rebuild(segment: _core.Segment, offset: int, shape: Any, dtype: Any, strides: Any, writeable: bool) -> SharedArray:
    """Load a pickled one."""
    shared = _view(segment, offset, shape, dtype, strides, "C")
    if not writeable:
        shared.flags.writeable = False
    return shared


def _view(segment: _core.Segment, offset: int, shape: Any, dtype: Any, strides: Any, order: str) -> SharedArray:
    shared = np.ndarray.__new__(
        SharedArray,
        shape,
        dtype,
        buffer=memoryview(segment),
        offset=offset,
        strides=strides,
        order=order,  # type: ignore[arg-type]
    )
    shared._segment = segment
    return shared
