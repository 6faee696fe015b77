"""`treadle run`: start an unmodified program with treadle's modules in the place of the standard library's.

The process becomes the program: this one's Python is replaced (exec) by one that runs the program as ever, after
`start/sitecustomize.py`.  So arguments, `__main__`, the path, standard input, signals, tracebacks and the exit code are
Python's own, and there is no process in between.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from treadle.cli.problems import Refusal
from treadle.cli.tracing import refuse

__all__ = ["command"]

_START = os.path.join(os.path.dirname(__file__), "start")  # noqa: PTH118, PTH120 - text
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - where treadle is


class _AsPython(click.Command):
    """Python lets what belongs to -m and -c follow at once: -mhttp.server."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        valued = [name for each in self.params if not getattr(each, "is_flag", True) for name in each.opts]
        for at, word in enumerate(args):
            if word[:2] in ("-m", "-c"):
                args[at : at + 1] = [word[:2], word[2:]] if len(word) > 2 else [word]
                break
            if not word.startswith("-") and (at == 0 or args[at - 1] not in valued):
                break  # the program; all that follows is its own
        return super().parse_args(ctx, args)


@click.command(
    name="run",
    cls=_AsPython,
    # What follows the program's name is the program's, whatever it looks like.
    context_settings={"help_option_names": ["-h", "--help"], "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@click.option("-m", "module", metavar="MODULE", is_flag=True, help="Run a module or package, as python -m does.")
@click.option("-c", "code", metavar="CODE", is_flag=True, help="Run this code, as python -c does.")
@click.option(
    "--on-stuck",
    type=click.Choice(["report", "exit", "ignore"]),
    help="When all threads wait, and nobody is left to wake one: say so, exit with code 70, or nothing.  [report]",
)
@click.option("--lock-order", is_flag=True, help="Report locks that are taken in different orders.")
@click.option("--trace", metavar="FILE", help="Record who ran and waited when; see treadle trace.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGUMENTS]...")
def command(
    module: bool, code: bool, on_stuck: str | None, lock_order: bool, trace: str | None, program: tuple[str, ...]
) -> NoReturn:
    """Run a Python program, unmodified, on treadle's threading, queue, multiprocessing and concurrent.futures.

    PROGRAM is what follows `python`: a script, a folder or zip file with a __main__.py, or - for standard input.  Its
    arguments, exit code, signals and tracebacks are as ever.  Processes that it starts by multiprocessing or a pool
    run on treadle too; programs that it starts by subprocess do not.
    """
    if module and code:
        raise Refusal("-m runs a module and -c runs code: choose one", "treadle run")
    if (module or code) and not program:
        raise Refusal(f"{'-m needs a module' if module else '-c needs code'}", "treadle run")
    options = {"on_stuck": on_stuck, "lock_order": lock_order or None}
    start(["-m"] * module + ["-c"] * code + list(program), options, _trace(trace, program))


def _trace(path: str | None, program: tuple[str, ...]) -> tuple[str, str] | None:
    """Where to record, and what the program is called in the recording.  Raises Refusal for what can be no trace."""
    if path is None:
        return None
    refuse(path, "treadle run")
    return os.path.abspath(path), os.path.basename(program[0]) if program else "python"  # noqa: PTH100, PTH119


def start(arguments: Sequence[str], options: dict[str, Any], trace: tuple[str, str] | None = None) -> NoReturn:
    """Become the program: ``python ARGUMENTS``, with ``treadle.install(**options)`` before it."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    if not sys.executable:
        raise Refusal("this Python does not know its own executable, so it can't start the program", "treadle run")
    if sys.flags.no_site:
        raise Refusal("the program is prepared by Python's site module, which -S has turned off", "treadle run")
    flags: list[str] = _args_from_interpreter_flags()
    environment = dict(os.environ)
    if sys.flags.ignore_environment:  # -E, -I: take Python's variables away instead, until it has started
        flags = [flag for flag in flags if flag not in ("-E", "-I")] + ["-s", "-P"] * sys.flags.isolated
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    environment.pop("TREADLE_BOARD", None)  # a program is a session, whoever starts it
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = _START if not path else os.pathsep.join((_START, path))
    changed = {name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name)}
    wish = {
        "environment": {name: os.environ.get(name) for name in sorted(changed - {"TREADLE_BOARD"})},
        "home": _HOME,
        "options": options,
        "trace": trace,
    }
    environment["TREADLE_RUN"] = json.dumps(wish)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # one that was closed by whoever has started this
            stream.flush()
    os.execve(sys.executable, [sys.executable, *flags, *arguments], environment)
