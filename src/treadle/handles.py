"""Objects in shared memory travel between processes as handles: which session they belong to, and where to find them.

This module imports nothing of treadle, because the receiver may have to join the sender's session first: the native
core joins a session when it is imported, and stays in it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["attach", "reduced", "session"]

VARIABLE = "TREADLE_BOARD"  # pid:descriptor of a process that has the session's board


def session() -> tuple[str, int]:
    """This process's session: how to join it (pid:descriptor of its board), and its board's identity."""
    from treadle._native import _core

    return f"{os.getpid()}:{_core.board_fd()}", _core.board_identity()


def reduced(maker: str, *args: Any) -> tuple[Any, ...]:
    """What `__reduce__` returns: the receiver calls `maker` ("module:name") with `args`, in the same session."""
    return attach, (*session(), maker, *args)


def join(board: str, identity: int) -> None:
    """Be in the session with that board from now on; RuntimeError if this process already is in another one."""
    if "treadle._native" not in sys.modules:
        os.environ[VARIABLE] = board
    from treadle._native import _core

    if _core.board_identity() != identity:
        raise RuntimeError(
            "this object belongs to another treadle session: the processes that share it must be started by one program"
        )


def attach(board: str, identity: int, maker: str, *args: Any) -> Any:
    """Unpickle: join the session, then let `maker` find the object."""
    join(board, identity)
    module, _, name = maker.partition(":")
    return getattr(importlib.import_module(module), name)(*args)
