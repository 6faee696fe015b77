"""What a worker process has in common with its program: one file a matter, with both of its sides.

`settings` is called in the program for each new worker, `arrive` in the worker before anything of the user's is loaded
there, and `handlers` are what the program does with the worker's reports (`reports.py`).
"""

from __future__ import annotations

import os
from typing import Any

from .. import reports
from ..payloads import dumps, loads
from . import errors, logs, native, seeds, streams, warns

handlers: dict[int, reports.Handler] = {
    reports.LOG: logs.handle,
    reports.WARNING: warns.handle,
    reports.THREAD_ERROR: errors.handle_thread_error,
    reports.UNRAISABLE: errors.handle_unraisable,
    reports.UNCAUGHT: errors.handle_uncaught,
}


def settings(place: tuple[int, int], threads: int | None, page: tuple[int, int]) -> bytes:
    """In the program: what a new worker has to know.  `threads` of BLAS and OpenMP, None: as many as they like."""
    return dumps({"place": place, "page": page, "logs": logs.settings(), "warns": warns.settings(), "native": threads})


def mirrored() -> bytes:
    """In the program: what a worker is told once and does not see change."""
    return dumps((logs.settings(), warns.settings()))


def arrive(blob: bytes) -> None:
    """In a new worker, whose environment is that of the program already."""
    values: dict[str, Any] = loads(blob)
    native.arrive(values["native"])
    seeds.arrive()
    streams.arrive(values["page"])
    sender = reports.Sender.open(values["place"])
    if sender is None:  # then what is said here comes out here
        return
    logs.arrive(values["logs"], sender)
    warns.arrive(values["warns"], sender)
    errors.arrive(sender)
    os.register_at_fork(after_in_child=streams.after_fork)
