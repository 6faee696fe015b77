"""The `treadle` command itself: its commands by name, each imported when it is asked for, and the exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click

from treadle import __version__
from treadle.cli.problems import OK, STUCK, USAGE, Problem

_COMMANDS = {  # name -> (module, the line in `treadle --help`)
    "map": ("treadle.cli.map", "Run a function over every item of an input, safely."),
    "run": ("treadle.cli.run", "Run an unmodified program on treadle's threads, queues and processes."),
    "why": ("treadle.cli.why", "Say why a program does not go on: who waits for whom."),
    "trace": ("treadle.cli.trace", "Show what ran and waited when, from a --trace file."),
    "top": ("treadle.cli.top", "Show what a program's pools, queues, locks and processes do, live."),
    "doctor": ("treadle.cli.doctor", "Judge the environment: Python, processors, memory, speed."),
    "examples": ("treadle.cli.examples", "List and run short example programs."),
}

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _LazyGroup(click.Group):
    """Knows its commands' names and summaries, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="treadle")
def treadle() -> None:
    """Threads, processes and pools that never hang in silence, never lose work, and say why they wait."""


def run(argv: Sequence[str] | None) -> int:
    """Run one command line; every way it can end becomes an exit code and at most one sentence on stderr."""
    try:
        code = treadle.main(args=None if argv is None else list(argv), prog_name="treadle", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context is not None else "treadle"
        _say(f"{name}: {error.format_message()}  ({name} --help says more)")
        return USAGE
    except Problem as problem:
        _say(f"{problem.command}: {problem}")
        return problem.code
    except (KeyboardInterrupt, click.Abort) as stop:
        _say("treadle: interrupted")
        return getattr(stop, "code", 128 + signal.SIGINT)
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None or sys.stdout is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at exit
        _say(f"treadle: cannot write to standard output: {error.strerror}")
        return STUCK
    return code if isinstance(code, int) else OK


def _say(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # nobody reads stderr; the exit code still tells
        sys.stderr = None
