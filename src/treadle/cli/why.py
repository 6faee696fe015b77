"""`treadle why`: who waits for whom, since when, and why."""

from __future__ import annotations

import json
import os

import click

from treadle._native import _core
from treadle.cli.problems import OK, Refusal
from treadle.diagnose import picture
from treadle.diagnose.causes import LONG_SECONDS, causes
from treadle.diagnose.report import SCHEMA, as_dict, render

_FOUND = 1


@click.command(name="why", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("pid", metavar="[PID]", required=False, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="For programs; docs/why.md has the schema.")
@click.option(
    "--long", type=click.FloatRange(min=0), default=LONG_SECONDS, metavar="SECONDS", show_default=True,
    help="A pool's task that has run for longer, and that everybody waits for, is named as a cause.",
)  # fmt: skip
def command(pid: int | None, as_json: bool, long: float) -> int:
    """Say why the program of process PID does not go on: its first line names the cause.

    Below stand all its processes and threads: what each waits for, who has that, since when, and where in the code;
    and what the workers of pools run.  It looks from outside, and stops nobody.  PID is any process of the program.
    Without PID: all programs of this user that use treadle.

    Exit codes: 0 nothing is stuck, 1 a cause was found, 2 there is nothing to look at.
    """
    _core.thread_role("service")  # to whoever looks at a session that this command has inherited: it is no part of it
    pictures = []
    try:
        if pid is not None:
            pictures.append(picture.take(pid))
        else:
            pictures = _all()
    except picture.NotThere as error:
        raise Refusal(str(error), command="treadle why")
    shown = [(each, causes(each, long)) for each in pictures]
    if as_json:
        sessions = [as_dict(each, found) for each, found in shown]
        click.echo(json.dumps({"schema": SCHEMA, "sessions": sessions}, indent=2))
    else:
        for number, (each, found) in enumerate(shown):
            if number:
                click.echo()
            if pid is None:
                click.echo(f"== process {each.main}")
            click.echo(render(each, found))
            if pid is not None and pid != each.main:
                click.echo(f"\nprocess {pid} belongs to the program of process {each.main}; all of it is shown")
    return _FOUND if any(found for _, found in shown) else OK


def _all() -> list[picture.Picture]:
    """Pictures of all sessions but this command's own."""
    found = []
    for board in picture.sessions():
        pids = [pid for pid in board.pids if pid != os.getpid()]
        if not pids:
            continue
        try:
            found.append(picture.take(pids[0]))
        except picture.NotThere:  # it has just ended
            continue
    if not found:
        raise picture.NotThere("no program of this user uses treadle at the moment")
    return found
