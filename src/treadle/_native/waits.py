"""Who waits for whom, read from the board: of this session, or of any process of the same user."""

from __future__ import annotations

import os
import re
import threading
import time
from os import getpid
from typing import Any, NamedTuple

from treadle._native import _core, board_path

ASK_SECONDS = 0.05  # that long at most the waiting threads are given to write down where they stand

__all__ = ["Wait", "board_of", "records", "threads", "wait_of", "waits"]


class Wait(NamedTuple):
    """A thread, and what it waits for (kind is ``""`` if it doesn't wait).

    `what` and `stack` are written by the thread itself when it is asked; they are empty if it could not in time.
    `owner` is the token of the thread that it waits for, 0 if it waits for nobody in particular; `token` is its own.
    `bare`: the owner has what it waits for by a bare `acquire()`, so that somebody else may release it.  `object` tells
    what is waited for from everything else, within a process if it is `private`, else within the session.
    """

    pid: int
    tid: int
    name: str
    kind: str
    what: str
    seconds: float
    timed: bool
    owner: int
    stack: tuple[str, ...]
    token: int
    bare: bool = False
    object: int = 0
    private: bool = True

    @property
    def who(self) -> str:
        """``thread 'Worker-3'``, with the process if that is another one."""
        name = f"thread {self.name!r}" if self.name else f"thread {self.tid}"
        return name if self.pid == getpid() else f"{name} of process {self.pid}"


def _name(record: dict[str, Any]) -> str:
    name: str = record["name"]
    if not name and record["pid"] == getpid():
        for thread in threading.enumerate():
            if thread.native_id == record["tid"]:
                return thread.name
    return name


def wait_of(record: dict[str, Any] | None) -> Wait | None:
    """A record of the board as data."""
    if record is None:
        return None
    return Wait(
        pid=record["pid"],
        tid=record["tid"],
        name=_name(record),
        kind=record["kind"],
        what=_told(record["what"]) or _plain(record["kind"]),
        seconds=record["seconds"],
        timed=record["timed"],
        owner=record["owner"],
        stack=_users(record["stack"].splitlines()),
        token=record["token"],
        bare=record["bare"],
        object=record["object"],
        private=record["private"],
    )


_PROCESS_START = re.compile(r"multiprocessing.process(?:es)?\.py:\d+ in (?:Base|_)Process\.run$")
# What every thread and every child process begins with; "<string>" is the command of a forkserver or a spawned child.
_START_UP = (
    "/treadle/sync/thread.py", "/treadle/multiprocessing/processes.py", f"{os.sep}threading.py", "<string>",
    "/treadle/pool/launch/nursery.py", "/treadle/pool/worker.py", "/treadle/pool/engines/threads.py",
    *(f"{os.sep}multiprocessing{os.sep}{name}.py" for name in ("forkserver", "spawn", "process", "popen_fork")),
)  # fmt: skip


_INSIDE = re.compile(r"/treadle/(pool|sync|queues|multiprocessing|futures|shared)/[\w/]+\.py:\d+ in ")


def _users(frames: list[str]) -> tuple[str, ...]:
    """A stack, outermost frame first, without those with which every thread or process begins, and those at its end
    that are treadle's own: what is waited for says as much."""
    skip = 0
    for depth, frame in enumerate(frames[:-1]):
        if _PROCESS_START.search(frame):
            skip = depth + 1
    while skip < len(frames) - 1 and frames[skip].partition(":")[0].endswith(_START_UP):
        skip += 1
    end = len(frames)
    while end - skip > 1 and _INSIDE.search(frames[end - 1]):
        end -= 1
    return tuple(frames[skip:end])


_OURS = re.compile(
    r" \(made at \S*/(?:treadle/((?:pool|sync|multiprocessing)/\w+)|concurrent/futures/_base)\.py:\d+\)$"
)
_INSIDE_OF = {
    "pool/maps": "the next result of a pool's map", "pool/amaps": "the next result of a pool's map",
    "pool/streams": "the next value of a pool's task", "pool/driver": "a pool to end its work",
    "multiprocessing/imap": "the next result of a pool's map", "multiprocessing/jobs": "a pool to end its work",
    "sync/barrier": "the others at a Barrier", "sync/rwlock": "an RWLock",
}  # fmt: skip


def _told(what: str) -> str:
    """What a thread waits for, in the words of who uses it, not of what it is made of."""
    ours = _OURS.search(what)
    if ours is None:
        return what
    if ours[1] is None:  # the standard library's own
        return "the result of a Future"
    return _INSIDE_OF.get(ours[1]) or ("the result of a pool's task" if ours[1].startswith("pool/") else what)


def _plain(kind: str) -> str:
    return {"": "", "get": "an item of a Queue", "put": "room in a Queue", "queue-join": "join() of a Queue"}.get(
        kind, f"a {kind}"
    )


def board_of(pid: int) -> str:
    """The path under which process `pid` has its board; ProcessLookupError if it has none or can't be looked at."""
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 - pathlib takes long to import
            except OSError:
                continue
            if target.startswith("/memfd:treadle-board"):
                return board_path(pid, int(fd))
    except OSError:
        pass
    raise ProcessLookupError(f"process {pid} is not running treadle, is gone, or belongs to another user")


def records(path: str | None) -> list[dict[str, Any]]:
    """What this session's board says (None), or the one at `path`, once those that wait were asked where they stand.

    OSError if it can't be opened.
    """
    until = time.monotonic() + ASK_SECONDS
    while not _core.board_ask(path) and time.monotonic() < until:
        time.sleep(0.001)
    return _core.board_read(path)


def threads(pid: int | None = None) -> list[Wait]:
    """All threads on a board that ever took a lock or blocked: of this session, or of process `pid`'s session.

    ProcessLookupError if that process has no board.  The picture is taken without stopping anybody, so two threads in
    it may be seen at slightly different moments.
    """
    return [
        wait
        for record in records(None if pid is None else board_of(pid))
        if record["role"] not in ("pool", "process")
        and _core.process_start(record["pid"]) == record["start"]
        and (wait := wait_of(record)) is not None
    ]


def waits(pid: int | None = None) -> list[Wait]:
    """The threads that wait now, longest first: of this process and its session, or of process `pid`'s session."""
    return sorted((wait for wait in threads(pid) if wait.kind), key=lambda wait: -wait.seconds)
