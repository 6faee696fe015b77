"""Large arguments: what several calls are given travels once.

Which calls are given the same is seen by what they are given, not by which object: an argument that was changed
between two submits is another one.  What comes for the first time travels with its call; what comes again is put to
the cluster.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

from ..engines.guest import Order
from ..functions import Function
from ..payloads import take_out

LARGE = 1 << 20  # bytes: what has that size goes to the cluster once, and from there to the stations
SEEN = 1024  # large arguments that are remembered, by a digest
NUMBERED_BYTES = 256 << 20  # and by all that they are: those that came again; the last one, however large it is


class LargeArguments:
    """Knows what was there before.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both
        self._seen: dict[bytes, None] = {}
        self._numbered: dict[bytes, Function] = {}  # a number is one of a function's: both travel the same way

    def take_out(self, orders: Sequence[Order]) -> tuple[list[Order], dict[int, bytes]]:
        """The orders without the large arguments that were seen before; and these, by their numbers."""
        apart: dict[int, bytes] = {}
        return [self._lighter(order, apart) if len(order.payload) >= LARGE else order for order in orders], apart

    def _lighter(self, order: Order, apart: dict[int, bytes]) -> Order:
        try:
            payload, blobs = take_out(order.payload, LARGE)
        except Exception:  # what does not load here, does not there: the call will say so
            return order
        if not blobs:
            return order
        found = [self._known(blob) for blob in blobs]
        if None in found:  # this is the first call that has one of these
            return order
        numbered = [function for function in found if function is not None]
        apart.update((function.id, function.blob) for function in numbered)
        return order._replace(payload=payload, apart=tuple([function.id for function in numbered]))

    def _known(self, blob: bytes) -> Function | None:
        """The same from before; None if it was not there."""
        digest = hashlib.blake2b(blob, digest_size=20).digest()
        with self._lock:
            function = self._numbered.pop(digest, None)
            if function is None:
                if digest not in self._seen:
                    self._seen[digest] = None
                    if len(self._seen) > SEEN:
                        del self._seen[next(iter(self._seen))]
                    return None
                function = Function(blob)
            self._numbered[digest] = function
            size = sum(len(each.blob) for each in self._numbered.values())
            for oldest in list(self._numbered)[:-1]:
                if size <= NUMBERED_BYTES:
                    break
                size -= len(self._numbered.pop(oldest).blob)
            return function
