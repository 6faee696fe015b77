"""What it costs to write down what only diagnosis reads: who waits for whom since when and where, what each
worker runs, how each pool stands, and to look whether somebody records or watches.

The ordinary core beside one that is built without all that (TREADLE_MUTE, see `setup.py`), on the benchmarks of the
other groups, in turns.  Where valgrind is installed, also the instructions of what one thread does alone, which no
other program on the machine changes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from ..board_work import ROWS
from ..paired import Cost, Pair, Round

ROOT = Path(__file__).parents[2]
ALONE = (
    "Lock, nobody waits",
    "Queue, put and get",
    "Lock of processes, nobody waits",
    "Queue of processes, put and get",
)
GOAL = 1.01  # times as long as without, at most
TOGETHER = True  # all rows in one process: they share the builds
NAMES = ("without the board's figures", "as it is")


@cache
def _builds() -> tuple[Path, Path]:
    """Two folders for PYTHONPATH: without, and with.  They are built in the same way."""
    made = []
    for mute in ("1", "0"):
        where = Path(tempfile.mkdtemp(prefix="treadle-board-"))
        command = [sys.executable, "setup.py", "-q", "build", f"-j{os.cpu_count()}"]
        command += ["--build-base", str(where), "--build-lib", str(where / "lib")]
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "TREADLE_MUTE": mute}, check=True, stdout=subprocess.DEVNULL
        )
        made.append(where / "lib")
    return made[0], made[1]


def _environment(build: Path) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(build), "PYTHONHASHSEED": "0"}
    environment.pop("TREADLE_BOARD", None)
    return environment


def _both(row: str) -> Callable[[ExitStack], tuple[Round, Round]]:
    def open(stack: ExitStack) -> tuple[Round, Round]:
        without, with_it = (_child(stack, row, build) for build in _builds())
        return without, with_it

    return open


def _child(stack: ExitStack, row: str, build: Path) -> Round:
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.board_work", row], cwd=ROOT, env=_environment(build), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    stack.callback(process.stdin.close)
    ask, answers = process.stdin, process.stdout

    def round() -> Cost:
        ask.write("\n")
        ask.flush()
        return Cost(*json.loads(answers.readline()))

    return round


def pairs() -> list[Pair]:
    """All of this file."""
    return [Pair(f"board: {row}", NAMES, _both(row), instances=13, goal=GOAL) for row in ROWS]


def instructions() -> None:
    """Print how many instructions an operation takes, by what two runs of different length differ in."""
    if shutil.which("valgrind") is None:
        print("\nboard: instructions are not counted: valgrind is not installed")
        return
    print("\nboard: instructions")
    for row in ALONE:
        each = [(_counted(row, build, 30_000) - _counted(row, build, 10_000)) / 20_000 for build in _builds()]
        print(f"  {row:<34} {each[0]:8.1f} {NAMES[0]}, {each[1]:8.1f} {NAMES[1]}: x {each[1] / each[0]:.4f}")


def _counted(row: str, build: Path, count: int) -> int:
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "benchmarks.board_work", row, str(count)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(build), check=True, capture_output=True, text=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))
