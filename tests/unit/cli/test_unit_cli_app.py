from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from treadle import __version__


@pytest.mark.parametrize("args", [["--help"], ["-h"]])
def test_help_lists_the_commands(run: Callable[..., Any], args: list[str]) -> None:
    ran = run(*args)
    assert ran.code == 0
    assert "map" in ran.out
    assert "examples" in ran.out


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from treadle.cli import main; main(['--help']); "
        "heavy = ('treadle.cli.map', 'treadle.cli.examples', 'treadle.cli.job', 'treadle.pool', 'rich'); "
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_worker_that_loads_a_function_imports_no_command_line_library() -> None:
    code = (
        "import sys; import treadle.cli.job.target; "
        "print([m for m in sys.modules if m.split('.')[0] in ('click', 'rich')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("command", [["-m", "treadle"], ["-c", "import sys; from treadle.cli import main; main()"]])
def test_it_can_be_started_as_a_module(command: list[str]) -> None:
    ran = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"treadle, version {__version__}\n"


@pytest.mark.parametrize(("args", "word"), [(["weave"], "'weave'"), (["--weave"], "--weave")])
def test_an_unknown_command_or_option_is_one_sentence(run: Callable[..., Any], args: list[str], word: str) -> None:
    ran = run(*args)
    assert ran.code == 2
    assert word in ran.err
    assert len(ran.err.splitlines()) == 1


def test_no_command_shows_the_help(run: Callable[..., Any]) -> None:
    ran = run()
    assert ran.code == 2
    assert "Commands" in ran.err


@pytest.mark.parametrize("command", [["examples"], ["--help"], ["why", "--help"]])
def test_a_full_disk_is_one_sentence(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "treadle", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (ran.returncode, ran.stderr) == (3, "treadle: cannot write to standard output: No space left on device\n")
