"""A picture as text, for people, and as a dict, for programs (the schema is in docs/why.md)."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

from treadle.progress import duration_text

from .causes import Cause, where_it_is
from .picture import Picture, Pool, Process, Thread
from .stuck import stuck

SCHEMA = 1

__all__ = ["SCHEMA", "as_dict", "render"]


def render(picture: Picture, found: list[Cause]) -> str:
    """The report.  Its first line names the cause."""
    lines = [first_line(picture, found)]
    lines += [f"also {cause.kind}: {cause.text}" for cause in found[1:]]
    for event in picture.events:
        who = f"process {event.dead_pid}" if event.dead_pid else "a process"
        lines.append(f"{duration_text(event.seconds)} ago {who} died while it held {event.what}; it was taken over")
    names = {thread.token: thread.who for thread in picture.threads}
    names |= {token: _late(token, picture) for token in picture.gone}
    for process in picture.processes:
        lines.append("")
        lines += _process(process, picture, names)
    return "\n".join(lines)


def first_line(picture: Picture, found: list[Cause]) -> str:
    """The cause, or that there is none."""
    if found:
        return f"{found[0].kind}: {found[0].text}"
    waiting = [thread for thread in picture.threads if thread.wait is not None and thread.role != "service"]
    if not waiting:
        return "nothing is stuck: nobody waits"
    longest = max(waiting, key=lambda thread: thread.wait.seconds if thread.wait else 0)
    assert longest.wait is not None
    return (
        f"nothing is stuck{_but(picture)}: {len(waiting)} wait; the longest is {longest.who}, "
        f"for {longest.wait.what}, for {duration_text(longest.wait.seconds)}"
    )


def _but(picture: Picture) -> str:
    """That only a signal can end what there is to wait for, if that is so."""
    if not stuck(picture, signals=False):
        return ""
    numbers = sorted({number for process in picture.processes for number in process.kernel.handles})
    return f", as long as a signal may come ({', '.join(map(_signal, numbers))})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last one
        return f"signal {number}"


def _late(token: int, picture: Picture) -> str:
    pid, name = picture.gone[token]
    named = f" ({name!r})" if name else ""
    if any(process.pid == pid for process in picture.processes):
        return f"a thread{named} of process {pid} that has ended"
    return f"process {pid}{named}, which has died"


def _process(process: Process, picture: Picture, names: dict[int, str]) -> list[str]:
    kernel = process.kernel
    what = {
        "main": f": {_command(kernel.command)}",
        "child": f" {process.name!r}" if process.name not in ("", "MainThread") else f": {_command(kernel.command)}",
        "worker": ", a pool's worker",
        "service": f", treadle's own ({process.name})",
    }[process.role]
    stopped = f", {kernel.state}" if kernel.state in ("stopped", "traced") else ""
    lines = [f"process {process.pid}{what}{stopped}"]
    lines += [f"  {_pool(pool)}" for pool in picture.pools if pool.pid == process.pid]
    silent = [thread for thread in process.threads if thread.role == "unknown"]
    for thread in process.threads:
        if thread not in silent and not (process.role == "service" and thread.wait is None):
            lines += _thread(thread, names)
    if silent:
        busy = sum(1 for thread in silent if thread.kernel is not None and thread.kernel.state == "running")
        lines.append(f"  {len(silent)} more threads, which treadle doesn't know ({busy} of them running)")
    return lines


def _command(command: str) -> str:
    program, _, rest = command.partition(" ")
    text = f"{program.rpartition('/')[2]} {rest}".rstrip()
    return text if len(text) <= 70 else text[:67] + "..."


def _pool(pool: Pool) -> str:
    return (
        f"{pool.name}: {pool.workers} of {pool.limit} workers ({pool.engine}), {pool.queued} queued, {pool.done} done, "
        f"{pool.failed} failed, {pool.cancelled} cancelled, {pool.restarts} restarts"
    )


def _thread(thread: Thread, names: dict[int, str]) -> list[str]:
    name = f"thread {thread.name!r}" if thread.name else f"thread {thread.tid}"
    lines = []
    task, wait = thread.task, thread.wait
    if task is not None:
        lines.append(f"    runs       task {task.number}, {task.function}, for {duration_text(task.seconds)}")
    if wait is not None:
        limit = ", with a time-out" if wait.timed else ""
        lines.append(f"    waits for  {wait.what}, for {duration_text(wait.seconds)}{limit}")
        if wait.owner:
            bare = ", by a bare acquire()" if wait.bare else ""
            verb = "        of " if wait.kind == "join" else "    held by"
            lines.append(f"{verb}    {names.get(wait.owner, 'somebody who is gone')}{bare}")
        for number, frame in enumerate(wait.stack):
            lines.append(f"    {'at         ' if number == 0 else '           '}{frame}")
        if not wait.stack:
            lines.append("    at         (not told: it had no chance yet, or its interpreter is busy)")
    elif task is not None:
        lines.append(f"    state      {where_it_is(thread)}")
    elif thread.role == "worker":
        lines.append("    idle")
    elif thread.role == "service":
        return [f"  {name} (treadle's own)"]
    else:
        lines.append(f"    state      {_state(thread)}")
    return [f"  {name}", *lines]


def _state(thread: Thread) -> str:
    kernel = thread.kernel
    if kernel is None:
        return "has just ended"
    place = f" in {kernel.sleeps_in}" if kernel.sleeps_in else ""
    return f"{kernel.state}{place}, {duration_text(kernel.cpu_seconds)} of CPU time"


def as_dict(picture: Picture, found: list[Cause]) -> dict[str, Any]:
    """The same for programs: keys are never renamed or taken away while `schema` is the same; new ones may come."""
    return {
        "schema": SCHEMA,
        "time": picture.moment,
        "main": picture.main,
        "summary": first_line(picture, found),
        "causes": [dataclasses.asdict(cause) for cause in found],
        "processes": [_process_dict(process) for process in picture.processes],
        "pools": [dataclasses.asdict(pool) for pool in picture.pools],
        "events": [dataclasses.asdict(event) for event in picture.events],
        "gone": [{"token": token, "pid": pid, "name": name} for token, (pid, name) in picture.gone.items()],
        "strangers": list(picture.strangers),
    }


def _process_dict(process: Process) -> dict[str, Any]:
    kernel = process.kernel
    return {
        "pid": process.pid,
        "parent": kernel.parent,
        "role": process.role,
        "name": process.name,
        "command": kernel.command,
        "state": kernel.state,
        "cpu_seconds": kernel.cpu_seconds,
        "rss": kernel.rss,
        "handles": list(kernel.handles),
        "threads": [_thread_dict(thread) for thread in process.threads],
    }


def _thread_dict(thread: Thread) -> dict[str, Any]:
    wait, kernel = thread.wait, thread.kernel
    return {
        "tid": thread.tid,
        "name": thread.name,
        "role": thread.role,
        "token": thread.token,
        "pool": thread.pool,
        "state": kernel.state if kernel is not None else "ended",
        "sleeps_in": kernel.sleeps_in if kernel is not None else "",
        "cpu_seconds": kernel.cpu_seconds if kernel is not None else 0.0,
        "task": dataclasses.asdict(thread.task) if thread.task is not None else None,
        "wait": None
        if wait is None
        else {
            "kind": wait.kind,
            "what": wait.what,
            "seconds": wait.seconds,
            "timed": wait.timed,
            "owner": wait.owner,
            "bare": wait.bare,
            "private": wait.private,
            "object": wait.object,
            "stack": list(wait.stack),
        },
    }
