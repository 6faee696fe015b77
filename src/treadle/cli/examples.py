"""`treadle examples`: list the programs of `treadle.examples`, show one, run one."""

from __future__ import annotations

import ast
import difflib
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from treadle.cli.problems import Refusal

_WATCH = "Watch for: "


@dataclass(frozen=True, slots=True)
class Example:
    """One program: its module's name, what it shows, what to watch for, and its text."""

    name: str
    shows: str
    watch: str
    text: str


def find_examples() -> dict[str, Example]:
    """Every example by name: the modules of `treadle.examples` that say what to watch for."""
    import treadle.examples

    found = {}
    for directory in treadle.examples.__path__:
        for module in pkgutil.iter_modules([directory]):
            text = (Path(directory) / f"{module.name}.py").read_text(encoding="utf-8")
            lines = (ast.get_docstring(ast.parse(text)) or "").splitlines()
            watch = [line.removeprefix(_WATCH) for line in lines if line.startswith(_WATCH)]
            if watch:
                found[module.name] = Example(module.name, lines[0], watch[0], text)
    return found


@click.command(name="examples", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--show", is_flag=True, help="Print the program instead of running it.")
def command(name: str | None, show: bool) -> int:
    """List short programs that show one idea each, or run the one called NAME."""
    examples = find_examples()
    if name is None:
        width = max(map(len, examples))
        for example in examples.values():
            click.echo(f"{example.name:{width}}  {example.shows}")
        click.echo("\ntreadle examples NAME runs one; with --show it prints the program.")
        return 0
    if name not in examples:
        close = difflib.get_close_matches(name, examples, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "treadle examples lists them"
        raise Refusal(f"there is no example {name!r}; {hint}", command="treadle examples")
    example = examples[name]
    if show:
        click.echo(example.text, nl=False)
        return 0
    click.echo(f"{example.name}: {example.shows}\n{_WATCH}{example.watch}\n")
    if sys.stdout is not None:  # else it is closed
        sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", f"treadle.examples.{name}"], check=False).returncode
