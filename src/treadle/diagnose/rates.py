"""What changes from one picture to the next: how busy processes and pools are, how queues fill and empty.

It is worked out by who looks, from figures that the program keeps anyhow, which cost it nothing, and from gauges, which
it keeps while somebody looks.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from treadle._native import _core
from treadle._native.waits import Wait

from .gauges import Gauge
from .picture import Picture, Pool, Process, Task, Thread

__all__ = ["Contended", "PoolRow", "ProcessRow", "QueueRow", "Rates", "Rows"]

MARKS = 512  # so many looks back the age of a queue's oldest item can be told


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process; `cpu` is in percent of one processor since the last look, None at the first."""

    pid: int
    what: str
    state: str
    cpu: float | None
    rss: int
    threads: int
    waiting: int


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool; `done_rate` is tasks a second since the last look, `running` what its workers run, longest first."""

    pool: Pool
    done_rate: float | None
    running: tuple[tuple[str, Task], ...]


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue between processes; or one of one process that was used while somebody looked, or of which somebody waits.

    `depth`, `put_rate`, `get_rate` (a second) and `maxsize` (0: no limit) are None where they are not known yet: of a
    queue of one process that has not changed since the first look, and rates at the first look.  `oldest` is how many
    seconds its oldest item has lain there at least, None if that can't be told.  `getters` and `putters` wait.
    """

    name: str
    depth: int | None
    maxsize: int | None
    put_rate: float | None
    get_rate: float | None
    oldest: float | None
    getters: int
    putters: int


@dataclass(frozen=True, slots=True)
class Contended:
    """A lock, semaphore, condition, event or barrier for which somebody waits, or has waited since the last look.

    `waiters` wait now, the one that came first for `longest` seconds.  Since the last look, so many waits a second
    (`wait_rate`) have ended with what they were for, after `wait` seconds in the mean; and a lock's holds that began
    with such a wait, and have ended, took `hold` seconds in the mean.  None: there was none, or it was the first look.
    """

    name: str
    owner: str
    waiters: int
    longest: float
    wait_rate: float | None
    wait: float | None
    hold: float | None


@dataclass(frozen=True, slots=True)
class Rows:
    """All of it."""

    processes: list[ProcessRow]
    pools: list[PoolRow]
    queues: list[QueueRow]
    locks: list[Contended]


_NAME = re.compile(r"/memfd:treadle-([0-9a-f]{16})\b")
_PLAIN = re.compile(r"^(an item of|room in) (an? )?")


class Rates:
    """Remembers the last look.  Not thread-safe."""

    def __init__(self) -> None:
        self._moment = 0.0
        self._cpu: dict[int, float] = {}
        self._done: dict[int, int] = {}
        self._queues: dict[int, tuple[int, int]] = {}
        self._gauges: dict[tuple[int, int], Gauge] = {}
        # Of each queue: when so many had been put.
        self._marks: dict[int | tuple[int, int], deque[tuple[float, int]]] = {}

    def look(self, picture: Picture, gauges: list[Gauge]) -> Rows:
        """Rows for a picture and gauges that were just taken."""
        now = time.monotonic()
        seconds = now - self._moment if self._moment else 0.0
        self._moment = now
        before, self._gauges = self._gauges, {(gauge.pid, gauge.object): gauge for gauge in gauges}
        rows = Rows(
            self._processes(picture, seconds),
            self._pools(picture, seconds),
            self._shared_queues(picture, seconds, now) + self._local_queues(picture, before, seconds, now),
            _locks(picture, gauges, before, seconds),
        )
        for key in set(self._marks) - set(self._queues) - set(self._gauges):
            del self._marks[key]
        return rows

    def _processes(self, picture: Picture, seconds: float) -> list[ProcessRow]:
        rows, before, self._cpu = [], self._cpu, {}
        for process in picture.processes:
            kernel = process.kernel
            self._cpu[process.pid] = kernel.cpu_seconds
            cpu = None
            if seconds and process.pid in before:
                cpu = max(0.0, kernel.cpu_seconds - before[process.pid]) / seconds * 100
            waiting = sum(1 for thread in process.threads if thread.wait is not None)
            rows.append(
                ProcessRow(process.pid, _what(process), kernel.state, cpu, kernel.rss, len(process.threads), waiting)
            )
        return rows

    def _pools(self, picture: Picture, seconds: float) -> list[PoolRow]:
        rows, before, self._done = [], self._done, {}
        for pool in picture.pools:
            ended = pool.done + pool.failed + pool.cancelled
            self._done[pool.token] = ended
            rate = None
            if seconds and pool.token in before:
                rate = max(0, ended - before[pool.token]) / seconds  # a warm pool begins to count anew
            running = [
                (_worker(thread), thread.task)
                for thread in picture.threads
                if thread.pool == pool.token and thread.task is not None
            ]
            rows.append(PoolRow(pool, rate, tuple(sorted(running, key=lambda row: -row[1].seconds))))
        return rows

    def _shared_queues(self, picture: Picture, seconds: float, now: float) -> list[QueueRow]:
        rows, before, self._queues = [], self._queues, {}
        for id, path in sorted(_segments(picture).items()):
            try:
                look = _core.queue_look(path)
            except OSError:  # its last process has just ended
                continue
            if look is None:
                continue
            put, taken, maxsize, _, place = look
            getters, putters = _waiting_for(picture, id)
            if not put and not getters and not putters:  # nobody uses it; or a pool's store, which is no queue
                continue
            self._queues[id] = put, taken
            name = f"shared Queue (made at {place})" if place else f"Queue {id:016x}"
            rates: tuple[float | None, float | None] = (None, None)
            if seconds and id in before:
                rates = (put - before[id][0]) / seconds, (taken - before[id][1]) / seconds
            oldest = self._age(id, put, taken, now)
            rows.append(QueueRow(name, put - taken, max(0, maxsize), *rates, oldest, getters, putters))
        return rows

    def _local_queues(
        self, picture: Picture, before: dict[tuple[int, int], Gauge], seconds: float, now: float
    ) -> list[QueueRow]:
        """Those of one process: more of them can't be seen from outside."""
        waiting: dict[tuple[int, int], list[int]] = {}
        names: dict[tuple[int, int], str] = {}
        for thread in picture.threads:
            wait = thread.wait
            if wait is not None and wait.private and wait.kind in ("get", "put"):
                key = thread.pid, wait.object - 4 * (wait.kind == "put")  # each side has a word, one behind the other
                waiting.setdefault(key, [0, 0])[wait.kind == "put"] += 1
                names[key] = names.get(key) or _PLAIN.sub("", wait.what)
        rows = []
        for key, gauge in sorted(self._gauges.items()):
            if gauge.kind != "get":
                continue
            rates: tuple[float | None, float | None] = (None, None)
            if seconds:
                put, taken = gauge.put_before, gauge.taken_before
                if key in before:
                    put, taken = before[key].put, before[key].taken
                rates = (gauge.put - put) / seconds, (gauge.taken - taken) / seconds
            oldest = self._age(key, gauge.put, gauge.taken, now)
            counts = waiting.pop(key, [0, 0])
            depth = gauge.put - gauge.taken
            rows.append(QueueRow(gauge.name, depth, max(0, gauge.maxsize), *rates, oldest, *counts))
        rest = [QueueRow(names[key], None, None, None, None, None, *counts) for key, counts in sorted(waiting.items())]
        return rows + rest

    def _age(self, id: int | tuple[int, int], put: int, taken: int, now: float) -> float | None:
        """The item that is taken next is one that had been put when more than `taken` had."""
        marks = self._marks.setdefault(id, deque(maxlen=MARKS))
        marks.append((now, put))
        if put <= taken:
            return None
        since = next(when for when, count in marks if count > taken)
        return now - since


def _segments(picture: Picture) -> dict[int, str]:
    """The pieces of memory that the session's processes have open, each with a path by which to open it."""
    found: dict[int, str] = {}
    for process in picture.processes:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if match := _NAME.match(str(entry.readlink())):
                        found.setdefault(int(match[1], 16), str(entry))
    return found


def _same(id: int, object: int) -> bool:
    """Is that what waiters of the queue with this id wait for?  See `ring_object` in _native/memory/ring.h."""
    return (id | 1 << 63) & ~7 == object & ~7


def _waiting_for(picture: Picture, id: int) -> tuple[int, int]:
    waits = [
        thread.wait
        for thread in picture.threads
        if thread.wait is not None and not thread.wait.private and _same(id, thread.wait.object)
    ]
    return sum(wait.kind == "get" for wait in waits), sum(wait.kind == "put" for wait in waits)


def _locks(
    picture: Picture, gauges: list[Gauge], before: dict[tuple[int, int], Gauge], seconds: float
) -> list[Contended]:
    names = {thread.token: thread.who for thread in picture.threads}
    groups: dict[tuple[int, int], list[Wait]] = {}
    for thread in picture.threads:
        wait = thread.wait
        if wait is not None and wait.kind not in ("get", "put", "join", "queue-join") and thread.role != "service":
            groups.setdefault((thread.pid if wait.private else 0, wait.object), []).append(wait)
    figures = {(gauge.pid, gauge.object): gauge for gauge in gauges if gauge.kind != "get"}
    rows = []
    for key in {**groups, **figures}:
        waits, new, old = groups.get(key, []), figures.get(key), before.get(key)
        rate = mean = hold = None
        if new is not None and seconds:
            count, holds = new.waits, new.holds
            waited, held = new.waited, new.held
            if old is not None:
                count, holds = count - old.waits, holds - old.holds
                waited, held = waited - old.waited, held - old.held
            rate = count / seconds
            mean = waited / count if count > 0 else None
            hold = held / holds if holds > 0 else None
        if not waits and mean is None and hold is None:
            continue
        told = next((wait for wait in waits if wait.stack), waits[0] if waits else None)
        name = told.what if told is not None and told.stack else new.name if new is not None else told.what  # type: ignore[union-attr]
        owner = names.get(told.owner, "") if told is not None else ""
        longest = max((wait.seconds for wait in waits), default=0.0)
        rows.append(Contended(name, owner, len(waits), longest, rate, mean, hold))
    return sorted(rows, key=lambda row: (-row.waiters, -(row.wait_rate or 0.0) * (row.wait or 0.0), -row.longest))


def _what(process: Process) -> str:
    if process.role == "worker":
        return "a pool's worker"
    if process.role == "service":
        return f"treadle's own ({process.name})"
    if process.role == "child" and process.name not in ("", "MainThread"):
        return repr(process.name)
    program, _, rest = process.kernel.command.partition(" ")
    return f"{program.rpartition('/')[2]} {rest}".strip()


def _worker(thread: Thread) -> str:
    return str(thread.pid) if thread.tid == thread.pid else thread.name
