"""All asleep: when no thread of a program can ever go on, say so, and who waits for what and where.

The main thread looks, while it waits for something without a time-out: its wait wakes up once a second anyway, for
signals, so this needs no thread, no timer, and nothing at all while the main thread does anything else.  At the end of
the program, where Python waits for the threads that are no daemons, so does `_await_threads`, in view of the board.

What is looked at first is the board: does every thread of every process wait without a time-out?  That is one pass
over its records, in C.  Only then is /proc asked for what the board can't know: threads that never used treadle,
children that don't, signal handlers.  Each of these counts as able to wake somebody unless it is sure not to be.  If
nothing is found twice, and nobody has moved in between, nobody ever will.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from treadle._native import _core, joined
from treadle._native.waits import Wait, threads

from .handlers import handled

__all__ = ["EXIT_CODE", "MODES", "VARIABLE", "begin", "begin_by_variable", "mode"]

EXIT_CODE = 70  # EX_SOFTWARE
MODES = ("report", "exit", "ignore")
VARIABLE = "TREADLE_ON_STUCK"

LOOK_SECONDS = 1.0
CONFIRM_SECONDS = 0.3
TELL_SECONDS = 2.0  # those that sleep are given so long to write down where; on an idle machine they need 1 ms
NEVER = 1e9

_PROC = Path("/proc")
_mode = "ignore"
_owner = 0  # the process that looks; its children are looked at by it
_suspect = 0  # what the board looked like when everybody seemed to sleep
_told = 0  # ... when it was last reported


def mode() -> str:
    """What is done when all are asleep."""
    return _mode


def begin(what: str) -> None:
    """From now on, when all are asleep: ``"report"`` it on stderr, ``"exit"`` with code 70 after that, or
    ``"ignore"`` it.

    Raises ValueError for anything else.  For the program as a whole: its children need not call it.
    """
    global _mode, _owner
    if what not in MODES:
        raise ValueError(f"on_stuck {what!r}: one of {', '.join(MODES)} is needed")
    _mode = what
    if what == "ignore" or _owner == os.getpid():
        return
    _owner = os.getpid()
    _core.hook("on_idle", _look)
    # The first in the list is the last to be called: all others have told their threads to end by then.
    exits = getattr(threading, "_threading_atexits", None)
    if exits is not None:
        exits.insert(0, _await_threads)


def begin_by_variable() -> None:
    """What the environment says, in the program that it was said to: its children have the variable, too."""
    if not joined:
        begin(os.environ[VARIABLE])


def _await_threads() -> None:
    """At the end of the program: wait for what Python would wait for next."""
    if _owner != os.getpid() or _mode == "ignore":
        return
    me = threading.current_thread()
    waited = True
    while waited:
        waited = False
        for thread in threading.enumerate():
            # Others than treadle's own are waited for by Python, a moment later.
            if not thread.daemon and thread is not me and hasattr(thread, "_over"):
                thread.join()
                waited = True


def _look() -> float:
    """Called in the main thread while it waits; in how many seconds it wants to be called again."""
    global _suspect, _told
    if _owner != os.getpid() or _mode == "ignore":
        return NEVER
    now = _core.board_asleep()
    if now == 0 or now == _told or _may_be_woken():
        _suspect = 0
        return LOOK_SECONDS
    if now != _suspect:
        _suspect = now
        return CONFIRM_SECONDS
    until = time.monotonic() + TELL_SECONDS
    while not _core.board_ask(None) and time.monotonic() < until:
        time.sleep(0.002)
    text = report(threads())
    if _core.board_asleep() != now:  # telling takes a moment
        return CONFIRM_SECONDS
    _suspect, _told = 0, now
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr: the exit code has to do
        sys.stderr.write(text)
        sys.stderr.flush()
    if _mode == "exit":
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        os._exit(EXIT_CODE)  # an orderly end would wait for the threads
    return LOOK_SECONDS


def report(found: list[Wait]) -> str:
    """What is said: who waits for what, and where."""
    waiting = sorted((wait for wait in found if wait.kind), key=lambda wait: (wait.pid != _owner, wait.pid, wait.tid))
    lines = ["treadle: all asleep: every thread of this program waits, and nobody is left who could wake one of them."]
    if not any(wait.pid == wait.tid == _owner for wait in waiting):  # it waits in slices, and is between two of them
        lines += ["  thread 'MainThread' waits for a pool", *(f"      {frame}" for frame in _here())]
    for wait in waiting:
        if any(frame.endswith(f" in {_await_threads.__qualname__}") for frame in wait.stack):
            lines.append(f"  {wait.who} is at the end of the program, and waits for {wait.what}")
            continue
        lines.append(f"  {wait.who} waits for {wait.what}, since {wait.seconds:.1f} s")
        lines += [f"      {frame}" for frame in wait.stack]
    lines.append(
        "It stays so for ever; Ctrl-C ends it." if _mode == "report" else f"It ends with exit code {EXIT_CODE}."
    )
    return "\n".join(lines) + "\n"


def _here() -> list[str]:
    """Where the program's own code stands that has led to this."""
    frames = [f for f in traceback.extract_stack() if f"{os.sep}treadle{os.sep}" not in f.filename]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-12:]]


# -- what the board can't know ----------------------------------------------------------------------------------------


def _may_be_woken() -> bool:
    """Is there anything that could wake somebody?  In doubt there is."""
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN):
        return True
    records = [r for r in _core.board_read(None) if _core.process_start(r["pid"]) == r["start"] and not r["ended"]]
    known: dict[int, set[int]] = {}
    crews: dict[int, int] = {}
    for record in records:
        if record["role"] == "pool":
            continue
        known.setdefault(record["pid"], set()).add(record["tid"])
        if record["role"] == "worker":
            crews[record["pool"]] = crews.get(record["pool"], 0) + 1
    if any(r["role"] == "pool" and r["workers"] > crews.get(r["token"], 0) for r in records):
        return True  # a worker that is about to begin
    try:
        return any(
            record["role"] == "service" and not record["kind"]
            and not _sleeps(_PROC / str(record["pid"]) / "task" / str(record["tid"]), True)
            for record in records
        ) or any(handled(pid) or _others_may_act(pid, tids, known) for pid, tids in known.items())  # fmt: skip
    except (OSError, ValueError, IndexError):  # something has just ended, or can't be looked at
        return True


def _others_may_act(pid: int, tids: set[int], known: dict[int, set[int]]) -> bool:
    """May a thread that the board does not know, or a child that does not use treadle, do something?"""
    for entry in (_PROC / str(pid) / "task").iterdir():
        if int(entry.name) not in tids and not _sleeps(entry):
            return True
        for child in (entry / "children").read_text().split():
            if int(child) not in known and not _helper(int(child)):
                return True
    return False


def _helper(pid: int) -> bool:
    """Is it one of the standard library's own processes, that act for others only?  Or dead?"""
    if (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
        return True
    command = (_PROC / str(pid) / "cmdline").read_bytes()
    return b"multiprocessing.resource_tracker" in command or b"multiprocessing.forkserver" in command


def _sleeps(thread: Path, service: bool = False) -> bool:
    """Does a thread wait on a futex, or for descriptors, without a time-out?  One of a library's pool, say.

    Or one of ours, whose time-outs for descriptors are for housekeeping; others show in its pool's figures.
    """
    words = (thread / "syscall").read_text().split()
    if len(words) < 5:  # it is running
        return False
    number, limit = int(words[0]), int(words[4], 16)  # the fourth argument is the time-out
    if number in _EPOLL:
        return service or limit & 0xFFFFFFFF == 0xFFFFFFFF
    return number == _FUTEX and limit == 0


_FUTEX, _EPOLL = {"x86_64": (202, (232, 281)), "aarch64": (98, (22,))}.get(os.uname().machine, (-2, ()))
