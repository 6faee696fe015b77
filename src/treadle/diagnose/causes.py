"""Why nothing goes on: the causes that a picture shows, the most certain first.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from treadle.progress import duration_text

from .picture import Picture, Pool, Process, Thread
from .stuck import asleep, cycles, stuck

LONG_SECONDS = 3.0  # a task that runs longer than that, and that everybody waits for, may hang

__all__ = ["LONG_SECONDS", "Cause", "causes"]


@dataclass(frozen=True, slots=True)
class Cause:
    """`kind` is "deadlock", "dead owner", "stopped", "worker hangs", "forgotten consumer", "forgotten producer" or
    "all asleep"; `text` says it in a sentence; `threads` are the tokens of the threads that it holds up, and `pids` the
    processes that it names."""

    kind: str
    text: str
    threads: tuple[int, ...]
    pids: tuple[int, ...]


def causes(picture: Picture, long: float = LONG_SECONDS, signals: bool = True) -> list[Cause]:
    """All that are found; `long` is how many seconds a pool's task may run before it is suspected, `signals` whether
    one may come that the program handles."""
    left = stuck(picture, signals)
    found = _deadlocks(picture) + _dead_owners(picture) + _stopped(picture) + _hanging(picture, long)
    if left and not any(cause.kind in ("deadlock", "dead owner", "stopped") for cause in found):
        found += _bereaved(picture, left) or _forgotten(picture, left)
    return found


def _what(thread: Thread) -> str:
    assert thread.wait is not None
    return thread.wait.what


def _deadlocks(picture: Picture) -> list[Cause]:
    found = []
    for members in cycles(picture.threads):
        if len(members) == 1:
            text = f"{members[0].who} waits for {_what(members[0])}, which it holds itself"
        else:
            pids = {thread.pid for thread in members}
            between = f"{len(members)} threads" + (f" of {len(pids)} processes" if len(pids) > 1 else "")
            steps = [
                f"{thread.who} waits for {_what(thread)}"
                + (f", held by {after.who}" if thread.wait is not None and thread.wait.kind != "join" else "")
                for thread, after in zip(members, [*members[1:], members[0]], strict=True)
            ]
            text = f"{between} wait for each other: {'; '.join(steps)}"
        found.append(_cause("deadlock", text, members))
    return found


def _dead_owners(picture: Picture) -> list[Cause]:
    living = {process.pid for process in picture.processes}
    tokens = {thread.token for thread in picture.threads}
    found = []
    for thread in picture.threads:
        wait = thread.wait
        if wait is None or not wait.owner or wait.owner in tokens or wait.kind == "join":
            continue
        pid, name = picture.gone.get(wait.owner, (0, ""))
        named = f" ({name!r})" if name else ""
        if pid and pid not in living:
            owner = f"process {pid}{named}, which has died"
        elif pid or wait.private:
            owner = f"a thread{named} that has ended without releasing it"
        else:
            owner = "a process that has died"
        text = f"{wait.what} is held by {owner}; {thread.who} has waited for it for {duration_text(wait.seconds)}"
        found.append(_cause("dead owner", text, [thread], (pid,) if pid else ()))
    return found


def _stopped(picture: Picture) -> list[Cause]:
    """A process that was stopped (by a signal, or by a debugger) while others wait for what it has."""
    halted = {process.pid: process for process in picture.processes if process.kernel.state in ("stopped", "traced")}
    owners = {thread.token: thread for thread in picture.threads if thread.pid in halted}
    found = []
    for process in halted.values():
        held = [
            thread
            for thread in picture.threads
            if thread.wait is not None and thread.wait.owner in owners and owners[thread.wait.owner].pid == process.pid
            and thread.pid != process.pid
        ]  # fmt: skip
        how = "a debugger holds it" if process.kernel.state == "traced" else f"kill -CONT {process.pid} lets it go on"
        behind = f", and {held[0].who} waits for {_what(held[0])}, which it holds" if held else ""
        text = f"{_process(process)} is stopped ({how}){behind}"
        found.append(_cause("stopped", text, held, (process.pid,)))
    return found


def _hanging(picture: Picture, long: float) -> list[Cause]:
    """Workers that have run one task for long, while all others of their program wait."""
    found = []
    threads = picture.threads
    for pool in picture.pools:
        busy = [thread for thread in threads if thread.pool == pool.token and thread.task is not None]
        users = [
            thread for thread in threads if thread.pid == pool.pid and thread.role == "" and thread.pool != pool.token
        ]
        if not all(thread.wait is not None for thread in users):
            continue  # somebody works who may need nothing of this pool
        for thread in sorted(busy, key=lambda each: -(each.task.seconds if each.task else 0)):
            if thread.task is None or thread.task.seconds < long or thread.wait is not None:
                continue
            waiting = [user for user in users if user.wait is not None and not user.wait.timed]
            found.append(_cause("worker hangs", _hang(picture, pool, thread, busy, waiting), waiting, (thread.pid,)))
    return found


def _hang(picture: Picture, pool: Pool, thread: Thread, busy: list[Thread], waiting: list[Thread]) -> str:
    task = thread.task
    assert task is not None
    who = f"process {thread.pid}" if thread.pid != pool.pid else f"thread {thread.name!r}"
    others = len(busy) - 1
    rest = f"{pool.queued} tasks are queued" if pool.queued else "no task is queued"
    rest += f", {others} other workers are busy" if others else ", all other workers are idle"
    if waiting:
        rest += f", and {waiting[0].who} waits"
    return (
        f"worker {who} of {pool.name} has run task {task.number}, {task.function}, for {duration_text(task.seconds)}: "
        f"{where_it_is(thread)}; {rest}"
    )


def where_it_is(thread: Thread) -> str:
    """What a thread does that does not wait for anything of treadle's, as far as that shows from outside."""
    kernel = thread.kernel
    if kernel is None:
        return "it has just ended"
    if kernel.state == "running":
        return f"it computes, in Python or in C ({duration_text(kernel.cpu_seconds)} of CPU time so far)"
    if kernel.state in ("stopped", "traced"):
        return "it is stopped"
    place = f" ({kernel.sleeps_in})" if kernel.sleeps_in else ""
    return f"it sleeps in C code, in a call of the system{place}"


def _bereaved(picture: Picture, left: list[Thread]) -> list[Cause]:
    """A process was killed with a lock in its hands, and now others wait for what it would have done."""
    living = {process.pid for process in picture.processes}
    for event in reversed(picture.events):
        if event.kind != "recovered" or event.pid not in living:
            continue
        _, name = picture.gone.get(event.dead, (0, ""))
        who = f"process {event.dead_pid}" if event.dead_pid else "a process"
        who += f" ({name!r})" if name else ""
        text = (
            f"{who} died while it held {event.what}, which process {event.pid} took over "
            f"{duration_text(event.seconds)} ago; now {_all(left)}, and nobody is left to end that"
        )
        return [_cause("dead owner", text, left, (event.dead_pid,) if event.dead_pid else ())]
    return []


def _forgotten(picture: Picture, left: list[Thread]) -> list[Cause]:
    roots = [thread for thread in left if thread.wait is not None and not thread.wait.owner] or left
    for kind, label, end in (
        ("get", "forgotten consumer", "nobody is left who could put one in"),
        ("put", "forgotten producer", "nobody is left who could take something out"),
    ):
        some = [thread for thread in roots if thread.wait is not None and thread.wait.kind == kind]
        if not some:
            continue
        first = some[0]
        same = [t for t in some if t.wait and first.wait and _same(t, first)]
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        verb = "have" if more else "has"
        assert first.wait is not None
        text = (
            f"{first.who}{more} {verb} waited for {first.wait.what} for {duration_text(first.wait.seconds)}, and {end}"
        )
        others = [thread for thread in left if thread not in same]
        if others:
            text += f": {_all(others)}"
        return [_cause(label, text, left)]
    label = "all asleep" if asleep(picture, left) else "stuck"
    return [_cause(label, f"{_all(left)}, and nobody is left to end that", left)]


def _same(one: Thread, other: Thread) -> bool:
    a, b = one.wait, other.wait
    assert a is not None and b is not None
    return a.object == b.object and (not a.private or one.pid == other.pid)


def _all(threads: list[Thread]) -> str:
    first = f"{threads[0].who} waits for {_what(threads[0])}"
    return first if len(threads) == 1 else f"{first}, and {len(threads) - 1} more wait"


def _process(process: Process) -> str:
    return f"process {process.pid}" + (f" ({process.name!r})" if process.name else "")


def _cause(kind: str, text: str, threads: list[Thread], pids: tuple[int, ...] = ()) -> Cause:
    return Cause(kind, text, tuple(thread.token for thread in threads), tuple({*pids, *(t.pid for t in threads)}))
