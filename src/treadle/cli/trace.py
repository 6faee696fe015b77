"""`treadle trace`: a trace as one page to look at, or as JSON for other tools."""

from __future__ import annotations

import os
from pathlib import Path

import click

from treadle.cli.problems import OK, STUCK, Problem, Refusal

__all__ = ["command"]

_COMMAND = "treadle trace"


@click.command(name="trace", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", metavar="FILE")
@click.option("--html", "html_", metavar="OUT", help="Write one page with the timeline, which needs nothing else.")
@click.option(
    "--json", "json_", metavar="OUT", help="Write trace-event JSON, of a recording whose program was killed, say."
)
def command(file: str, html_: str | None, json_: str | None) -> int:
    """Show what a program did, from the FILE that --trace has left.

    FILE may also be a recording that is not finished, or what another tool has written in the trace-event format of
    Chrome and Perfetto.  Without --html and --json, says in a few lines what is in it.

    Exit codes: 0 all well, 2 FILE is no trace, or can't be read; 3 OUT can't be written.
    """
    from treadle.diagnose.html import page
    from treadle.diagnose.timeline import BadTrace, load

    path = Path(file)
    for out in (html_, json_):
        if out is not None and Path(out).exists() and path.exists() and Path(out).samefile(path):
            raise Refusal(f"{out} is the trace itself; the output must be another file", _COMMAND)
    try:
        timeline = load(path)
        if json_ is not None:
            _write(json_, _json(path))
    except OSError as error:
        raise Refusal(f"cannot read {file}: {error.strerror or error}", _COMMAND)
    except BadTrace as error:
        raise Refusal(f"{file} is no trace that can be shown: {error}", _COMMAND)
    if html_ is not None:
        _write(html_, page(timeline, path.name))
    if html_ is None and json_ is None:
        from treadle.diagnose.summary import summary

        click.echo(summary(timeline))
    return OK


def _json(path: Path) -> str:
    from treadle.recording.recorder import read

    text = read(path)
    return path.read_text("utf-8") if text is None else text


def _write(name: str, text: str) -> None:
    """In one step: who looks at it meanwhile sees the old one."""
    out = Path(name)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_text(text, "utf-8")
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        problem = Problem(f"cannot write {name}: {error.strerror or error}", _COMMAND)
        problem.code = STUCK
        raise problem
