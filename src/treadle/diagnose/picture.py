"""A picture of a session: its processes and threads, what each waits for, what each worker runs, how its pools stand.

It is read from the board and from /proc, without stopping anybody and without asking the program for anything but one
thing: threads that wait and have not written down yet where they stand are woken for a moment to do so.  A thread that
can't (the interpreter is busy) is shown without.  Two threads may be seen at slightly different moments.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from treadle._native import _core, waits
from treadle._native.waits import Wait, wait_of
from treadle.errors import TreadleError
from treadle.pool.memory import children

from . import processes
from .processes import Board, KernelThread, Seen

__all__ = ["Event", "NotThere", "Picture", "Pool", "Process", "Task", "Thread", "sessions", "take"]


class NotThere(TreadleError, ProcessLookupError):
    """There is nothing to look at: the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker runs: the task's number in its pool (the first has number 1), the function, and for how long."""

    number: int
    function: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread.

    `role` is "" for a thread of the program's, "worker" for one that runs a pool's tasks, "service" for one of
    treadle's own, and "unknown" for one that never used anything of treadle's.  `kernel` is None if the thread has
    just ended.  `pool` is the token of the pool that it works for.
    """

    pid: int
    tid: int
    name: str
    role: str
    token: int
    kernel: KernelThread | None
    wait: Wait | None
    task: Task | None
    pool: int

    @property
    def who(self) -> str:
        """``thread 'Worker-3' of process 123``."""
        name = f"thread {self.name!r}" if self.name else f"thread {self.tid}"
        return f"{name} of process {self.pid}"


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool, as it says of itself.  `done`, `failed`, `cancelled` count tasks, `restarts` lost workers."""

    token: int
    pid: int
    name: str
    engine: str
    workers: int
    limit: int
    queued: int
    done: int
    failed: int
    cancelled: int
    restarts: int
    retrying: int  # failed, and wait for another attempt


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the session.  `role` is "main", "worker", "service" or "child"."""

    pid: int
    role: str
    name: str
    kernel: Seen
    threads: tuple[Thread, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened: kind "recovered" is a lock (`what`) taken over from process `dead_pid` (0: not known
    any more), which had died; `pid` noticed it, `seconds` ago."""

    kind: str
    what: str
    seconds: float
    dead: int
    dead_pid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A session at one moment.

    `gone` are the owners that the board still knows though they are dead: token -> (pid, name); a pid of a living
    process means that only the thread has ended.  `strangers` are children of the session's processes that don't use
    treadle.
    """

    main: int
    processes: tuple[Process, ...]
    pools: tuple[Pool, ...]
    events: tuple[Event, ...]
    gone: dict[int, tuple[int, str]]
    strangers: tuple[int, ...]
    moment: float

    @property
    def threads(self) -> list[Thread]:
        """Of all processes."""
        return [thread for process in self.processes for thread in process.threads]


def sessions() -> list[Board]:
    """All sessions of this user: their boards."""
    return processes.boards()


def take(pid: int | None = None) -> Picture:
    """A picture of the session of process `pid`, or (None) of the one that this process belongs to.

    Raises NotThere if that process has no session, is gone, or belongs to somebody else.
    """
    board = _find(pid)
    path = None if pid is None else board.path
    try:
        records, events = waits.records(path), _core.board_events(path)
    except OSError as error:  # it has just ended
        raise NotThere(f"process {pid} has ended") from error
    return _paint(pid, board, records, events)


def _find(pid: int | None) -> Board:
    if pid is None:
        pid = os.getpid()
        _core.thread_token()  # see that there is a board
    if not processes.exists(pid):
        raise NotThere(f"there is no process {pid}")
    user = processes.owner_name(pid)
    if user is not None:
        raise NotThere(f"process {pid} belongs to user {user}: only {user} or root can look at it")
    seen = processes.look(pid, threads=False)
    if seen is None or seen.state in ("zombie", "dead"):
        parent = "" if seen is None else f" (its parent, process {seen.parent}, has not taken notice yet)"
        raise NotThere(f"process {pid} has ended{parent}")
    found = sessions()
    for board in found:
        if pid in board.pids:
            return board
    what = f"process {pid} ({_short(seen.command)})"
    above: Seen | None = seen
    while above is not None and above.parent > 1:
        if any(above.parent in board.pids for board in found):
            raise NotThere(
                f"{what} does not use treadle itself, but was started by process {above.parent}, which does: "
                f"treadle why {above.parent}"
            )
        above = processes.look(above.parent, threads=False)
    raise NotThere(
        f"{what} does not use treadle: start it with `treadle run` in the place of `python`, "
        "or import treadle's threading, queue and multiprocessing in it"
    )


def _short(command: str) -> str:
    return command if len(command) <= 60 else command[:57] + "..."


def _paint(pid: int | None, board: Board, records: list[dict[str, Any]], events: list[Any]) -> Picture:
    seen = {each: found for each in board.pids if (found := processes.look(each)) is not None}
    looker = (
        None if pid is None else os.getpid()
    )  # who looks from outside, and belongs to the session by inheritance only
    seen = {each: found for each, found in seen.items() if found.state not in ("zombie", "dead") and each != looker}
    living: dict[tuple[int, int], list[dict[str, Any]]] = {}
    gone: dict[int, tuple[int, str]] = {}
    pools = []
    for record in records:
        owner = record["pid"]
        if owner == looker:
            continue
        if record["ended"] or owner not in seen or _core.process_start(owner) != record["start"]:
            gone[record["token"]] = (owner, record["name"])
        elif record["role"] == "pool":
            pools.append(_pool(record))
        elif record["role"] != "process":
            living.setdefault((owner, record["tid"]), []).append(record)
    # The one that none of the others has started, and that is not one of treadle's own that others have outlived.
    tops = [each for each in seen if seen[each].parent not in seen] or [board.pids[0]]
    main = next((each for each in tops if not _serves(living.get((each, each), []))), tops[0])
    painted = tuple(_process(found, living, main) for found in seen.values())
    return Picture(
        main=main,
        processes=painted,
        pools=tuple(pools),
        events=tuple(
            Event(kind, what, ago, dead, dead_pid, pid) for _, ago, kind, what, dead, dead_pid, pid, _ in events
        ),
        gone=gone,
        strangers=_strangers(seen),
        moment=time.time(),
    )


def _serves(records: list[dict[str, Any]]) -> bool:
    return any(record["role"] in ("service", "worker") for record in records)


def _pool(record: dict[str, Any]) -> Pool:
    figures = {
        key: record[key]
        for key in ("workers", "limit", "queued", "done", "failed", "cancelled", "restarts", "retrying")
    }
    return Pool(record["token"], record["pid"], record["name"], record["what"], **figures)


def _process(seen: Seen, living: dict[tuple[int, int], list[dict[str, Any]]], main: int) -> Process:
    threads = []
    kernel = {thread.tid: thread for thread in seen.threads}
    known = {tid: found for (pid, tid), found in living.items() if pid == seen.pid}
    for tid in sorted({*kernel, *known}, key=lambda tid: (tid != seen.pid, tid)):
        if tid in known:
            if tid in kernel:  # else it has just ended
                threads.append(_thread(seen.pid, tid, kernel[tid], known[tid]))
        else:
            threads.append(Thread(seen.pid, tid, "", "unknown", 0, kernel[tid], None, None, 0))
    first = next((thread for thread in threads if thread.tid == seen.pid), None)
    role = "child"
    if seen.pid == main:
        role = "main"
    elif first is not None and first.role in ("worker", "service"):
        role = first.role
    return Process(seen.pid, role, first.name if first is not None else "", seen, tuple(threads))


def _thread(pid: int, tid: int, kernel: KernelThread, records: list[dict[str, Any]]) -> Thread:
    base = next((record for record in records if not record["nested"]), records[0])
    # A signal handler may wait inside of a wait: the innermost is the one that counts, and began last.
    inner = min((record for record in records if record["kind"]), key=lambda record: record["seconds"], default=None)
    task = None
    if base.get("task"):
        task = Task(base["task"], base["title"], base["task_seconds"])
    wait = wait_of({**inner, "name": base["name"]}) if inner is not None else None
    name = base["name"]
    if wait is not None:
        name = wait.name
    return Thread(pid, tid, name, base["role"], base["token"], kernel, wait, task, base.get("pool", 0))


def _strangers(seen: dict[int, Seen]) -> tuple[int, ...]:
    """Living children of the session's processes that don't use treadle: they may do anything."""
    found = [child for pid in seen for child in children(pid)]
    helpers = ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker")
    strangers = []
    for pid in found:
        child = None if pid in seen or pid == os.getpid() else processes.look(pid, threads=False)
        if child is not None and child.state not in ("zombie", "dead") and not any(h in child.command for h in helpers):
            strangers.append(pid)
    return tuple(strangers)
