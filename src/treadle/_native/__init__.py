"""The native core, in C: locks that know their owner, parking, the board that diagnosis reads, the local queue.

Importing it joins the session's board: the one of the process that started this one, if that used treadle, else a new
one.  Children find it through the environment variable TREADLE_BOARD (pid:descriptor of a process that has it).
README.md in this folder says how each protocol works, and why a kill at any instruction is harmless.
"""

from __future__ import annotations

import os
import threading as _threading

try:
    from treadle._native import _core
except ImportError as error:  # a source tree that was never built, or another Python's build
    raise ImportError(
        "treadle's native core is not built for this Python; install the package with pip, which compiles it"
    ) from error

__all__ = ["_core", "board_path", "joined"]

VARIABLE = "TREADLE_BOARD"


def board_path(pid: int, descriptor: int) -> str:
    """Where process `pid`'s descriptor can be opened by other processes of the same user."""
    return f"/proc/{pid}/fd/{descriptor}"


def _join_board() -> bool:
    """False if this process begins a session."""
    given = os.environ.get(VARIABLE, "")
    pid, _, descriptor = given.partition(":")
    if pid.isdecimal() and descriptor.isdecimal():
        try:
            _core.board_open(board_path(int(pid), int(descriptor)))
        except OSError:  # that process is gone, or its board is of another version: start a new session
            pass
        else:
            return True
    _core.board_open(None)
    return False


def _tell_children() -> None:
    descriptor = _core.board_fd()
    if descriptor >= 0:
        os.environ[VARIABLE] = f"{os.getpid()}:{descriptor}"


def _in_child() -> None:
    _tell_children()
    _core.thread_name(_threading.current_thread().name)  # a fork gives its thread a new record


# For recordings: whose thread this is, and where treadle's callers stand.
_core.hook("threads", _threading._active)  # type: ignore[attr-defined]
_core.hook("home", os.path.dirname(os.path.dirname(__file__)) + os.sep)  # noqa: PTH120
joined = _join_board()
_tell_children()
os.register_at_fork(after_in_child=_in_child)
if _threading.current_thread() is _threading.main_thread():
    _core.thread_name("MainThread")
