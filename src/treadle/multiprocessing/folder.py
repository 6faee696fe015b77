"""The temporary folder that the standard library makes for sockets, and its end if its owner is killed.

The process that made it removes it when it ends.  Its descendants use it too, the fork servers among them; so a fork
server that ends after the owner was killed removes it in its place.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from multiprocessing import forkserver, process, util
from pathlib import Path
from typing import Any

from treadle._native import _core

__all__ = ["clean_up", "prepare"]

OWNER = "owner"  # a file in the folder: pid and start of the process that made it
# A dying process closes its descriptors, which is what the fork server notices, a moment before it is seen to be dead.
DYING_SECONDS = 0.2


def prepare() -> None:
    """Before a fork server is started: write down whose folder it is."""
    current: Any = process.current_process()
    made = current._config.get("tempdir") is None
    folder = Path(util.get_temp_dir())
    if made or process.parent_process() is None:
        me = os.getpid()
        with contextlib.suppress(FileExistsError), (folder / OWNER).open("x") as file:
            file.write(f"{me} {_core.process_start(me)}")


def clean_up(server: int) -> None:
    """At the end of the fork server, whose pid is `server`: remove the folder if its owner can't, and be gone."""
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if os.getpid() != server or not isinstance(address, str) or address.startswith("\0"):
        return
    folder = Path(address).parent
    # What the modules that were loaded on request want done at exit was done before this.
    util._flush_std_streams()  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, ValueError):  # it is gone: its owner has removed it
        pid, start = map(int, (folder / OWNER).read_text().split())
        if not _lives(pid, start):
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # to take Python down properly would take longer than all the rest


def _lives(pid: int, start: int) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _core.process_start(pid) != start:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(DYING_SECONDS * 1000)
    finally:
        os.close(fd)
