"""`treadle top`: what a program's pools, queues, locks and processes are doing, live."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from treadle._native import _core
from treadle.cli.problems import OK, Refusal
from treadle.diagnose import gauges, picture
from treadle.diagnose.causes import causes
from treadle.diagnose.rates import Rates, Rows
from treadle.diagnose.report import first_line
from treadle.progress import duration_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_ENDED = 0
_SORTS = {"c": "CPU", "m": "memory", "p": "pid", "w": "waiting"}
_KEYS = {
    "c": lambda row: -(row.cpu or 0.0),
    "m": lambda row: -row.rss,
    "p": lambda row: row.pid,
    "w": lambda row: -row.waiting,
}
_MOST = 8  # lines of a pool's running tasks


@click.command(name="top", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("pid", metavar="[PID]", required=False, type=click.IntRange(min=1))
@click.option("--once", is_flag=True, help="Print one picture, and leave.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1, max=60), default=1.0, metavar="SECONDS", show_default=True,
    help="Between two looks.",
)  # fmt: skip
def command(pid: int | None, once: bool, interval: float) -> int:
    """Show what the program of process PID is doing: its pools, queues, locks and processes.

    It looks from outside, so it works while the program hangs.  While it looks, and only then, the program counts, in
    its queues and in locks that are waited for.  Without PID: the only program of this user that uses treadle.  Where
    the output is no terminal it prints one picture, as with --once.

    Keys: q quits; c, m, p, w sort the processes by CPU, memory, pid, or how many of their threads wait.
    """
    from rich.console import Console

    _core.thread_role("service")  # to whoever looks at a session that this command has inherited: it is no part of it
    if pid is None:
        pid = _only()
    console = Console()
    rates = Rates()
    try:
        rows, line = _look(rates, pid, interval)
        if once or not console.is_terminal or not sys.stdin.isatty():
            time.sleep(min(interval, 1.0))  # rates need two looks
            rows, line = _look(rates, pid, interval)
            console.print(_screen(rows, line, "c", False))
            return OK
    except picture.NotThere as error:
        raise Refusal(str(error), command="treadle top")
    return _live(console, rates, pid, interval, rows, line)


def _only() -> int:
    found = [pid for board in picture.sessions() for pid in board.pids[:1] if board.pids != (os.getpid(),)]
    if not found:
        raise Refusal("no program of this user uses treadle at the moment", command="treadle top")
    if len(found) > 1:
        pids = ", ".join(map(str, found))
        raise Refusal(f"several programs use treadle: say which one (processes {pids})", command="treadle top")
    return found[0]


def _look(rates: Rates, pid: int, interval: float) -> tuple[Rows, str]:
    seen = picture.take(pid)
    # For some intervals: who looks may be late, or stopped for a moment, and figures that begin anew are lost.
    return rates.look(seen, gauges.watch(pid, 3 * interval + 2)), first_line(seen, causes(seen))


def _live(console: Console, rates: Rates, pid: int, interval: float, rows: Rows, line: str) -> int:
    from rich.live import Live

    sort = "c"
    with _keys() as read, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(rows, line, sort, True), refresh=True)
            key = read(interval)
            if key == "q":
                return OK
            if key in _SORTS:
                sort = key
                continue
            try:
                rows, line = _look(rates, pid, interval)
            except picture.NotThere:
                break
    console.print(f"treadle top: process {pid} has ended")
    return _ENDED


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for a key for so many seconds: the key, or "".  The terminal is as before in the end."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:

        def read(seconds: float) -> str:
            ready, _, _ = select.select([fd], [], [], seconds)
            data = os.read(fd, 64) if ready else b""
            return "q" if ready and not data else data[:1].decode(errors="replace").lower()

        yield read
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


# -- printing


def _screen(rows: Rows, line: str, sort: str, live: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    style = "bold" if line.startswith("nothing is stuck") else "bold red"
    parts: list[RenderableType] = [Text(_short(line), style=style)]
    if live:
        parts.append(Text(f"q quit   sort by: c CPU  m memory  p pid  w waiting   (now {_SORTS[sort]})", style="dim"))
    if rows.pools:
        parts.append(_pools(rows))
    if rows.queues:
        parts.append(_queues(rows))
    if rows.locks:
        parts.append(_locks(rows))
    parts.append(_processes(rows, sort))
    return Group(*parts)


def _table(*columns: tuple[str, bool]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False)
    for name, number in columns:
        table.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="ellipsis")
    return table


def _pools(rows: Rows) -> Table:
    table = _table(
        ("pool", False), ("workers", True), ("queued", True), ("done", True), ("done/s", True), ("failed", True),
        ("restarts", True), ("running", False),
    )  # fmt: skip
    for row in rows.pools:
        pool = row.pool
        running = [f"{who}: {task.function} {duration_text(task.seconds)}" for who, task in row.running[:_MOST]]
        if len(row.running) > _MOST:
            running.append(f"and {len(row.running) - _MOST} more")
        table.add_row(
            f"{pool.name} ({pool.engine})", f"{pool.workers}/{pool.limit}", str(pool.queued), str(pool.done),
            _number(row.done_rate), str(pool.failed), str(pool.restarts), "\n".join(running) or "-",
        )  # fmt: skip
    return table


def _queues(rows: Rows) -> Table:
    table = _table(
        ("queue", False), ("depth", True), ("of", True), ("put/s", True), ("get/s", True), ("oldest", True),
        ("get waits", True), ("put waits", True),
    )  # fmt: skip
    for row in rows.queues:
        table.add_row(
            _short(row.name), _number(row.depth), _number(row.maxsize or None),
            _number(row.put_rate), _number(row.get_rate),
            "-" if row.oldest is None else f">= {duration_text(row.oldest)}", str(row.getters), str(row.putters),
        )  # fmt: skip
    return table


def _locks(rows: Rows) -> Table:
    table = _table(
        ("waited for", False), ("held by", False), ("waiters", True), ("longest", True), ("waits/s", True),
        ("mean wait", True), ("mean hold", True),
    )  # fmt: skip
    for row in rows.locks[:20]:
        table.add_row(
            _short(row.name), row.owner or "-", str(row.waiters), duration_text(row.longest) if row.waiters else "-",
            _number(row.wait_rate), _short_time(row.wait), _short_time(row.hold),
        )  # fmt: skip
    return table


def _processes(rows: Rows, sort: str) -> Table:
    table = _table(
        ("pid", True), ("process", False), ("state", False), ("CPU %", True), ("memory", True), ("threads", True),
        ("waiting", True),
    )  # fmt: skip
    for row in sorted(rows.processes, key=_KEYS[sort]):
        table.add_row(
            str(row.pid), row.what, row.state, _number(row.cpu), f"{row.rss / (1 << 20):.1f} MiB", str(row.threads),
            str(row.waiting),
        )  # fmt: skip
    return table


def _short_time(seconds: float | None) -> str:
    """Of things that hardly take any."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
    return duration_text(seconds)


def _short(text: str) -> str:
    """With files' names instead of their paths."""
    return re.sub(r"made at \S*/", "made at ", text)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
