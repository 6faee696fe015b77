"""How a page's programs are run: see `pages.py` for what a page may say, `run_page.py` for the processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pages import Page, Program

RUNNER = Path(__file__).with_name("run_page.py")
SECONDS = 50  # for a page


@dataclass
class Ran:
    """What a program has printed, and its exit code."""

    output: str
    code: int


def run(page: Page, programs: list[Program], folder: Path, at_once: int = 3) -> list[Ran]:
    """Run some of a page's programs, each in a folder of its own that has the page's files."""
    paths = []
    for number, program in enumerate(programs):
        own = folder / str(number)
        own.mkdir()
        for name, text in page.files.items():
            (own / name).write_text(text)
        paths.append(str(_written(program, own)))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "PYTHONUNBUFFERED": "1",
    }
    ran = subprocess.Popen([sys.executable, str(RUNNER), str(at_once), *paths], env=environment, start_new_session=True)
    try:
        ran.wait(SECONDS)
    finally:
        if ran.returncode is None:
            _end(ran)
    assert ran.returncode == 0
    results = [Ran(Path(f"{path}.out").read_text(), int(Path(f"{path}.code").read_text())) for path in paths]
    for path in paths:
        shutil.rmtree(Path(path).parent)
    return results


def _end(runner: subprocess.Popen[bytes]) -> None:
    """It took too long: it, and the programs, which have process groups of their own in its session."""
    found = subprocess.run(["ps", "-s", str(runner.pid), "-o", "pid="], capture_output=True, text=True).stdout.split()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    runner.kill()
    runner.wait()


def _written(program: Program, folder: Path) -> Path:
    given = program.comments.get("given", "")
    if program.language == "console":
        text = "import os, subprocess, sys\n"
        if given:
            text += f"exec({given!r})\n"
        for line in program.text.splitlines():
            if line.startswith("$ "):
                text += (
                    f"print({line!r}, flush=True)\nsubprocess.run({line[2:]!r}, shell=True, stdin=subprocess.DEVNULL)\n"
                )
        path = folder / "commands.py"
    else:
        # The given statements stand in the first line, so that line numbers are those of the page.
        text = (f"exec({given!r}); " if given else "") + program.text
        path = folder / program.comments.get("called", "program.py")
    path.write_text(text)
    return path


def expected(program: Program) -> str | None:
    """All that it should print; None if the page doesn't say."""
    if program.language == "console":
        return program.text
    return program.output
