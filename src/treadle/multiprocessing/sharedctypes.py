"""`multiprocessing.sharedctypes`: the standard library's names, with our memory and our locks."""

from __future__ import annotations

from multiprocessing import sharedctypes as _stdlib

from treadle.shared.raw import Array, RawArray, RawValue, Value, copy, synchronized

from .faces import stand_in_for

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

stand_in_for(__name__, _stdlib)
