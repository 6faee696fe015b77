"""`multiprocessing.dummy`: the same names for threads; the standard library's, with our ThreadPool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing import dummy as _stdlib
from typing import Any

from ..faces import stand_in_for


def Pool(
    processes: int | None = None, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
) -> Any:
    """A `ThreadPool`."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)


stand_in_for(__name__, _stdlib)
