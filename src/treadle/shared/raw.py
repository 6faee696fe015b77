"""ctypes objects in shared memory: RawValue, RawArray, Value and Array.

Small ones are a slot of the session's memory, others a segment of their own; both are freed with their last user.
"""

from __future__ import annotations

import ctypes
from multiprocessing import sharedctypes as _stdlib
from typing import Any

from treadle._native import _core
from treadle.handles import reduced
from treadle.sync.shared import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

TYPES: dict[str, Any] = _stdlib.typecode_to_type  # type: ignore[attr-defined]
Memory = _core.SharedCells | _core.Segment


def _shared(kind: Any) -> Any:
    """The same ctypes type, but its objects are pickled as what they are: a piece of shared memory."""
    # Kept in the type itself, so that it goes with it.
    found = kind.__dict__.get("_treadle_shared")
    if found is None:
        found = kind._treadle_shared = _subclass(kind)
    return found


def _subclass(kind: Any) -> Any:
    def reduce(self: Any, *protocol: int) -> tuple[Any, ...]:
        memory = getattr(self, "_memory", None)
        if memory is None:  # a copy of an element, say: by value, as ctypes does
            return ctypes.pointer(kind.from_buffer_copy(self)).contents.__reduce__()  # type: ignore[no-any-return]
        return reduced("treadle.shared.raw:rebuild", *_description(kind), memory)

    return type(kind.__name__, (kind,), {"__reduce__": reduce, "__reduce_ex__": reduce, "__module__": kind.__module__})


def _description(kind: Any) -> tuple[Any, int | None]:
    """(element type, length) of an array, which has no name to find its type by; (type, None) of others."""
    if issubclass(kind, ctypes.Array):
        return kind._type_, kind._length_
    return kind, None


def _open(kind: Any, memory: Memory) -> Any:
    thing = _shared(kind).from_buffer(memory)
    thing._memory = memory
    return thing


def rebuild(kind: Any, length: int | None, memory: Memory) -> Any:
    """Load a pickled one."""
    return _open(kind if length is None else kind * length, memory)


def _type_of(typecode_or_type: Any) -> Any:
    kind = TYPES.get(typecode_or_type, typecode_or_type)
    if isinstance(kind, str):
        raise TypeError(f"bad typecode {kind!r}: one of {', '.join(TYPES)} is needed, or a ctypes type")
    return kind


def _new(kind: Any) -> Any:
    size = ctypes.sizeof(kind)
    return _open(kind, _core.SharedCells() if size <= _core.CELLS_SIZE else _core.Segment(size))


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, without a lock; `args` as for its type.

    It can be pickled at any time, and then is the same object.  MemoryError or OSError if there is no memory for it;
    TypeError for a typecode that there is not.
    """
    thing = _new(_type_of(typecode_or_type))
    thing.__init__(*args)
    return thing


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory, without a lock: of so many zeros, or with these elements.  See `RawValue`."""
    kind = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(kind * size_or_initializer)
    thing = _new(kind * len(size_or_initializer))
    thing.__init__(*size_or_initializer)
    return thing


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes object in shared memory with a lock, which `value` and other attributes take for each access.

    `lock`: True for a new RLock, or the lock to use; False for none (then it is a `RawValue`).  As
    `multiprocessing.Value`, but it can be pickled at any time.
    """
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes array in shared memory with a lock, which each access takes.  See `Value` and `RawArray`."""
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _locked(thing: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return thing
    if lock in (True, None):
        lock = RLock() if ctx is None else ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(thing, lock, ctx)


def copy(thing: Any) -> Any:
    """A new ctypes object in shared memory, without a lock, with the same contents."""
    if not hasattr(thing, "_memory"):
        kind = type(thing)
    else:
        element, length = _description(type(thing).__mro__[1])
        kind = element if length is None else element * length
    new = _new(kind)
    ctypes.memmove(ctypes.addressof(new), ctypes.addressof(thing), ctypes.sizeof(kind))
    return new


def synchronized(thing: Any, lock: Any = None, ctx: Any = None) -> Any:
    """`thing` (of `RawValue`, `RawArray`, `copy`) with a lock; None: a new RLock."""
    assert not isinstance(thing, _stdlib.SynchronizedBase), "object already synchronized"
    if lock is None:
        lock = RLock() if ctx is None else ctx.RLock()
    # The standard library's wrapper, by the type that it would take without the layer that makes it picklable.
    return _wrapper(type(_stdlib.synchronized(thing, lock, ctx)))(thing, lock, ctx)


def _wrapper(kind: Any) -> Any:
    """The standard library's wrapper, but it can be pickled at any time."""
    found = kind.__dict__.get("_treadle_shared")
    if found is None:
        found = kind._treadle_shared = _wrapper_subclass(kind)
    return found


def _wrapper_subclass(kind: Any) -> Any:
    def reduce(self: Any) -> tuple[Any, ...]:
        return reduced("treadle.shared.raw:synchronized", self._obj, self._lock)

    return type(kind.__name__, (kind,), {"__reduce__": reduce, "__module__": kind.__module__})
