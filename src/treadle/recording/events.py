"""A recording as text in the trace-event format, which Perfetto, chrome://tracing and vizviewer open.

One event a line, so that what was cut off can still be read up to there.  Times are microseconds since the beginning.

==========  =========================================================================================
category    what
==========  =========================================================================================
``task``    a task ran: ``args.task`` is its number in its pool, ``args.index`` its item's in a map
``wait``    a thread waited: ``args.kind`` for what kind of thing, ``args.what`` for which one,
            ``args.where`` in the code, ``args.owner``: who had it when the wait began
``span``    something else that takes time: the life of a thread
``pool``    a task was given to a worker process; an arrow leads to where it runs
``end``     a worker process is gone
==========  =========================================================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .raw import (
    END,
    FAILED,
    INDEXED,
    MARK,
    SENT,
    SPAN,
    TASK,
    THREAD,
    TIMED,
    TIMED_OUT,
    WAIT,
    WAITS,
    Chunk,
    read_chunks,
    read_head,
)

_HOME = str(Path(__file__).parent.parent) + "/"
MERGE_NS = 5_000_000  # waits for the same thing that are not farther apart are one that was slept in slices
ARROWS = 200_000  # with more tasks there are no arrows: they would be half of the file
_OWNER_MASK = ~0xFF

# What treadle's own objects are for, by where they were made.
_OURS = {
    "pool/maps.py": "the next result of a map",
    "pool/amaps.py": "the next result of a map",
    "pool/streams.py": "the next result of a map",
    "pool/driver.py": "the pool",
    "pool/future.py": "the result of a task",
    "pool/pool.py": "the pool",
    "futures/": "results of tasks",
    "multiprocessing/pool.py": "the pool",
    "multiprocessing/async_result.py": "the result of a task",
    "multiprocessing/imap.py": "the next result of a map",
    "sync/thread.py": "the end of a thread",
}

# Who is alive: (pid, start of the process) -> bool.
Alive = Callable[[int, int], bool]


class Thread(NamedTuple):
    """Whose row it is."""

    pid: int
    tid: int
    name: str


class _Rows:
    """What is to be known of all chunks before the first event can be written."""

    def __init__(self, data: memoryview, begin: int, end: int) -> None:
        self.threads: dict[int, Thread] = {}  # token -> who
        self.processes: dict[int, str] = {}  # pid -> title
        self.starts: dict[int, int] = {}  # pid -> start
        self.last: dict[int, int] = {}  # pid -> when it last recorded something
        self.ends: dict[int, tuple[int, int]] = {}  # place of a slot -> when it ended, flags
        self.thread_ends: dict[int, int] = {}  # token -> when
        self.sent: dict[tuple[int, int], tuple[int, int]] = {}  # (worker, task) -> index or -1, when
        self.gone: dict[int, int] = {}  # worker -> when it was found gone
        self.tasks = 0
        texts: dict[int, dict[int, str]] = {}
        for chunk in read_chunks(data):
            own = texts.setdefault(chunk.token, {})
            own.update(chunk.texts)
            last = self.last.get(chunk.pid, 0)
            self.starts[chunk.pid] = chunk.start
            if chunk.token not in self.threads:
                self.threads[chunk.token] = Thread(chunk.pid, chunk.tid, "")
                self.processes.setdefault(chunk.pid, "")
            if chunk.ended:
                self.thread_ends[chunk.token] = chunk.ended
                last = max(last, chunk.ended)
            for place, slot in zip(chunk.places, chunk.slots, strict=True):
                last = max(last, slot[0], slot[1])
                kind = slot[4]
                if kind == TASK:
                    self.tasks += 1
                elif kind == SENT:
                    if begin <= slot[0] <= end:
                        self.sent[slot[8], slot[7]] = slot[2] - 1, slot[0]
                elif kind == END:
                    self.ends[slot[7]] = slot[0], slot[6]
                elif kind == MARK:
                    self.gone[slot[8]] = slot[0]
                elif kind == THREAD:
                    self.threads[chunk.token] = Thread(chunk.pid, chunk.tid, own.get(slot[2], ""))
                    self.processes[chunk.pid] = own.get(slot[3], "") or self.processes[chunk.pid]
                del place
            self.last[chunk.pid] = last


def render(
    data: memoryview,
    begin: int | None = None,
    end: int | None = None,
    *,
    alive: Alive,
    about: dict[str, Any] | None = None,
    names: dict[int, str] | None = None,
) -> Iterator[str]:
    """The file's text, in pieces.  Raises NotARecording, before the first of them.

    `begin` and `end` are the part that is wanted (monotonic ns); `names` of threads that have recorded nothing, by
    token; `about` becomes part of ``otherData``.
    """
    head = read_head(data)
    begin = head.monotonic if begin is None else begin
    end = time.monotonic_ns() if end is None else end
    rows = _Rows(data, begin, end)
    return _render(data, rows, begin, end, alive, head, about or {}, names or {})


def _render(
    data: memoryview, rows: _Rows, begin: int, end: int, alive: Alive, head: Any, about: dict[str, Any],
    names: dict[int, str],
) -> Iterator[str]:  # fmt: skip
    other = {
        "recorder": "treadle",
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((head.wall + begin - head.monotonic) / 1e9)),
        "seconds": round((end - begin) / 1e9, 6),
        "dropped": head.dropped,
        **about,
    }
    yield f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(other)}, "traceEvents": [\n'
    yield from _metadata(rows)
    arrows = rows.tasks <= ARROWS
    texts: dict[int, dict[int, str]] = {}
    for chunk in read_chunks(data):
        own = texts.setdefault(chunk.token, {})
        own.update(chunk.texts)
        lines = list(_Writer(rows, chunk, own, begin, end, alive, names, arrows).lines())
        if lines:
            yield ",\n".join(lines) + ",\n"
    # The last one has no comma behind it.
    where = f'"pid":{head.pid},"tid":{head.pid}'
    yield f'{{"ph":"i","s":"g","name":"end","cat":"end","ts":{_us(end - begin)},{where}}}\n]}}\n'


def _metadata(rows: _Rows) -> Iterator[str]:
    for order, (pid, title) in enumerate(rows.processes.items()):
        yield _meta("process_name", pid, pid, name=title or f"process {pid}")
        yield _meta("process_sort_index", pid, pid, sort_index=order)
    seen: dict[tuple[int, int], str] = {}
    for thread in rows.threads.values():
        name = thread.name or ("MainThread" if thread.pid == thread.tid else f"thread {thread.tid}")
        if seen.get((thread.pid, thread.tid)) != name:
            seen[thread.pid, thread.tid] = name
            yield _meta("thread_name", thread.pid, thread.tid, name=name)


def _meta(what: str, pid: int, tid: int, **args: Any) -> str:
    return f'{{"ph":"M","name":"{what}","pid":{pid},"tid":{tid},"args":{json.dumps(args)}}},\n'


def _us(ns: int) -> str:
    """Nanoseconds as microseconds."""
    return f"{ns // 1000}.{ns % 1000:03}"


class _Writer:
    """The events of one chunk."""

    def __init__(
        self, rows: _Rows, chunk: Chunk, texts: dict[int, str], begin: int, end: int, alive: Alive,
        names: dict[int, str], arrows: bool,
    ) -> None:  # fmt: skip
        self._rows = rows
        self._chunk = chunk
        self._texts = texts
        self._begin = begin
        self._end = end
        self._alive = alive
        self._names = names
        self._arrows = arrows
        self._dumped: dict[int, str] = {0: '"?"'}

    def lines(self) -> Iterator[str]:
        chunk, rows, first, end = self._chunk, self._rows, self._begin, self._end
        where = f'"pid":{chunk.pid},"tid":{chunk.tid}'
        arrows = self._arrows
        pending: tuple[Any, ...] | None = None  # a wait that the next one may go on
        for place, slot in zip(chunk.places, chunk.slots, strict=True):
            started, stopped, name, detail, kind, sub, flags, a, b = slot
            if kind == SENT:  # as many as there are tasks: the short way
                if arrows and first <= started <= end:
                    at = (started - first) / 1000
                    yield (
                        f'{{"ph":"X","cat":"pool","name":"send","ts":{at:.3f},"dur":1,{where},"args":{{"task":{a}}}}},\n'
                        f'{{"ph":"s","cat":"task","name":"task","id":"{b:x}.{a}","ts":{at:.3f},{where}}}'
                    )
                continue
            if kind not in (TASK, WAIT, SPAN, MARK) or started > end:
                continue
            unfinished = ""
            if stopped == 0:
                stopped, more = rows.ends.get(place, (0, 0))
                flags |= more
                if stopped == 0:
                    stopped, unfinished = self._broken_off(b if kind == TASK else 0, started), ',"unfinished":true'
            if stopped < first:
                continue
            started, stopped = max(started, first), min(stopped, end)
            if kind == WAIT:
                if pending is not None:
                    if pending[2:6] == (sub, a, name, detail) and started - pending[1] < MERGE_NS:
                        started = pending[0]
                    else:
                        yield self._wait(where, *pending)
                pending = (started, stopped, sub, a, name, detail, flags, b, unfinished)
                if flags & TIMED_OUT:
                    continue  # it may be slept on in the next slice
                yield self._wait(where, *pending)
                pending = None
                continue
            when = f'"ts":{(started - first) / 1000:.3f},"dur":{max(0, stopped - started) / 1000:.3f}'
            if kind == TASK:
                yield from self._task(where, when, started - first, name, detail, flags, a, b, unfinished)
            elif kind == SPAN:
                yield (
                    f'{{"ph":"X","cat":"span","name":{self._text(name)},{when},{where},'
                    f'"args":{{{unfinished[1:]}{_failed(flags, unfinished)}}}}}'
                )
            else:
                yield (
                    f'{{"ph":"i","s":"p","cat":"end","name":{self._text(name)},"ts":{_us(started - first)},{where}}}'
                )
        if pending is not None:
            yield self._wait(where, *pending)

    def _text(self, number: int) -> str:
        text = self._dumped.get(number)
        if text is None:
            text = self._dumped[number] = json.dumps(_plain(self._texts.get(number, "?")))
        return text

    def _task(
        self, where: str, when: str, ts: int, name: int, index: int, flags: int, seq: int, worker: int, unfinished: str
    ) -> Iterator[str]:
        sent = self._rows.sent.get((worker, seq))
        if not flags & INDEXED:
            index = sent[0] if sent is not None else -1
        shown = f',"index":{index}' if index >= 0 else ""
        yield (
            f'{{"ph":"X","cat":"task","name":{self._text(name)},{when},{where},'
            f'"args":{{"task":{seq}{shown}{unfinished}{_failed(flags, ",")}}}}}'
        )
        if sent is not None and self._arrows:
            yield (
                f'{{"ph":"f","bp":"e","cat":"task","name":"task","id":"{worker:x}.{seq}","ts":{ts / 1000:.3f},{where}}}'
            )

    def _wait(
        self, where: str, started: int, stopped: int, sub: int, a: int, name: int, detail: int, flags: int, edge: int,
        unfinished: str,
    ) -> str:  # fmt: skip
        kind = WAITS[sub] if sub < len(WAITS) else "something"
        more = f',"object":"{a:#x}"{unfinished}'
        if detail:
            more += f',"where":{self._text(detail)}'
        if edge & _OWNER_MASK:
            more += f',"owner":{json.dumps(self._who(edge & _OWNER_MASK))}'
        if flags & TIMED_OUT:
            more += ',"timed_out":true'
        elif flags & FAILED:
            more += ',"interrupted":true'
        elif flags & TIMED:
            more += ',"timed":true'
        return (
            f'{{"ph":"X","cat":"wait","name":"wait: {kind}","ts":{_us(started - self._begin)},'
            f'"dur":{_us(max(0, stopped - started))},{where},'
            f'"args":{{"kind":"{kind}","what":{self._text(name) if name else json.dumps(kind)}{more}}}}}'
        )

    def _who(self, token: int) -> str:
        thread = self._rows.threads.get(token)
        if thread is None:
            return self._names.get(token, "a thread that is not in the recording")
        name = thread.name or f"thread {thread.tid}"
        return name if thread.pid == self._chunk.pid else f"{name} of process {thread.pid}"

    def _broken_off(self, worker: int, started: int) -> int:
        """When something ended of which no end was recorded: with its thread, its process, or the recording."""
        chunk, rows = self._chunk, self._rows
        ended = rows.thread_ends.get(chunk.token) or rows.gone.get(worker)
        if ended:
            return max(started, ended)
        if self._alive(chunk.pid, chunk.start):
            return self._end
        return max(started, rows.last.get(chunk.pid, started))


def _plain(text: str) -> str:
    """What is waited for, where that is an object that the user has not made."""
    kind, made, place = text.partition(" (made at ")
    if made and place.startswith(_HOME):
        for inside, meaning in _OURS.items():
            if place.startswith(inside, len(_HOME)):
                return meaning
        return f"{kind} of treadle's own"
    return text


def _failed(flags: int, before: str) -> str:
    return f'{"," if before else ""}"failed":true' if flags & FAILED else ""
