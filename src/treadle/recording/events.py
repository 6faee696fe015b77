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

from .._native import _core
from .raw import END, MARK, THREAD, Chunk, read_chunks, read_head

_HOME = str(Path(__file__).parent.parent) + "/"
ARROWS = 200_000  # with more tasks there are no arrows: they would be half of the file

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

    def __init__(self, data: memoryview, rendering: _core.Rendering) -> None:
        self.threads: dict[int, Thread] = {}  # token -> who
        self.processes: dict[int, str] = {}  # pid -> title
        self.last: dict[int, int] = {}  # pid -> when it last recorded something
        self.ends: dict[int, tuple[int, int]] = {}  # place of a slot -> when it ended, flags
        self.thread_ends: dict[int, int] = {}  # token -> when
        self.gone: dict[int, int] = {}  # worker -> when it was found gone
        self.chunks: list[Chunk] = []
        self.texts: dict[int, dict[int, str]] = {}  # token -> number -> text, as JSON
        for chunk in read_chunks(data):
            self.chunks.append(chunk)
            texts, others, last = rendering.scan(chunk.place, chunk.slots)
            own = self.texts.setdefault(chunk.token, {})
            own.update((number, json.dumps(_plain(text))) for number, text in texts.items())
            if chunk.token not in self.threads:
                self.threads[chunk.token] = Thread(chunk.pid, chunk.tid, "")
                self.processes.setdefault(chunk.pid, "")
            if chunk.ended:
                self.thread_ends[chunk.token] = chunk.ended
            self.last[chunk.pid] = max(self.last.get(chunk.pid, 0), chunk.ended, last)
            for kind, began, name, where, flags, a, b in others:
                if kind == END:
                    self.ends[a] = began, flags
                elif kind == MARK:
                    self.gone[b] = began
                elif kind == THREAD:
                    self.threads[chunk.token] = Thread(chunk.pid, chunk.tid, json.loads(own.get(name, '""')))
                    self.processes[chunk.pid] = json.loads(own.get(where, '""')) or self.processes[chunk.pid]


def render(
    data: memoryview,
    begin: int | None = None,
    end: int | None = None,
    *,
    alive: Alive,
    about: dict[str, Any] | None = None,
    names: dict[int, str] | None = None,
) -> Iterator[bytes]:
    """The file's text, in pieces.  Raises NotARecording, before the first of them.

    `begin` and `end` are the part that is wanted (monotonic ns); `names` of threads that have recorded nothing, by
    token; `about` becomes part of ``otherData``.
    """
    head = read_head(data)
    begin = head.monotonic if begin is None else begin
    end = time.monotonic_ns() if end is None else end
    return _render(data, begin, end, alive, head, about or {}, names or {})


def _render(
    data: memoryview, begin: int, end: int, alive: Alive, head: Any, about: dict[str, Any], names: dict[int, str]
) -> Iterator[bytes]:
    other = {
        "recorder": "treadle",
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((head.wall + begin - head.monotonic) / 1e9)),
        "seconds": round((end - begin) / 1e9, 6),
        "dropped": head.dropped,
        **about,
    }
    rendering = _core.Rendering(data, begin, end)
    try:
        rows = _Rows(data, rendering)
        yield f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(other)}, "traceEvents": [\n'.encode()
        yield "".join(_metadata(rows)).encode()
        arrows = rendering.tasks <= ARROWS
        for chunk in rows.chunks:
            where = f'"pid":{chunk.pid},"tid":{chunk.tid}'
            asked = _Asked(rows, chunk, end, alive, names)
            texts = rows.texts[chunk.token]
            lines = rendering.lines(chunk.place, chunk.slots, where, texts, asked.broken, asked.who, arrows)
            if lines:
                yield lines + b",\n"
    finally:
        rendering.close()
    # The last one has no comma behind it.
    where = f'"pid":{head.pid},"tid":{head.pid}'
    ts = f"{(end - begin) // 1000}.{(end - begin) % 1000:03}"
    yield f'{{"ph":"i","s":"g","name":"end","cat":"end","ts":{ts},{where}}}\n]}}\n'.encode()


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


class _Asked:
    """What the rendering of a chunk asks for: it is rare."""

    def __init__(self, rows: _Rows, chunk: Chunk, end: int, alive: Alive, names: dict[int, str]) -> None:
        self._rows = rows
        self._chunk = chunk
        self._end = end
        self._alive = alive
        self._names = names

    def broken(self, place: int, worker: int, began: int) -> tuple[int, int, bool]:
        """When something ended of which the slot has no end: (when, flags, whether it was never ended)."""
        chunk, rows = self._chunk, self._rows
        if place in rows.ends:
            return *rows.ends[place], False
        ended = rows.thread_ends.get(chunk.token) or rows.gone.get(worker)
        if ended is None:  # with its process, or the recording
            ended = self._end if self._alive(chunk.pid, chunk.start) else rows.last[chunk.pid]
        return max(began, ended), 0, True

    def who(self, token: int) -> str:
        """What an owner is called, as JSON."""
        thread = self._rows.threads.get(token)
        if thread is None:
            return json.dumps(self._names.get(token, "a thread that is not in the recording"))
        name = thread.name or f"thread {thread.tid}"
        return json.dumps(name if thread.pid == self._chunk.pid else f"{name} of process {thread.pid}")


def _plain(text: str) -> str:
    """What is waited for, where that is an object that the user has not made."""
    kind, made, place = text.partition(" (made at ")
    if made and place.startswith(_HOME):
        for inside, meaning in _OURS.items():
            if place.startswith(inside, len(_HOME)):
                return meaning
        return f"{kind} of treadle's own"
    return text
