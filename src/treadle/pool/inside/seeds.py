"""No two workers draw the same random numbers, however they were started."""

from __future__ import annotations

import contextlib
import sys


def arrive() -> None:
    """In the worker: give each global generator that is there already a seed of its own.

    The `random` module does so after each fork by itself; this is for a program that has put another instance in its
    place.  What is imported later begins with a seed from the system anyway.
    """
    random = sys.modules.get("random")
    if random is not None:
        random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        with contextlib.suppress(Exception):
            numpy_random.seed()
