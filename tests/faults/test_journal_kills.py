"""`kill -9` of `treadle map` at any moment: whatever was reported is there, and --resume ends where it should."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.once

WRITER = """
import sys
from pathlib import Path
from treadle.cli.job.files import LineFile
from treadle.cli.job.failures import Failures
from treadle.cli.job.journal import Journal

journal = Journal(LineFile.open(Path("out")))
failures = Failures(Path("out.errors.jsonl"))
journal.load()
failures.load(journal.done.__contains__)
print("loaded", flush=True)
index = journal.done.last
while True:
    index += 1
    if index % 3 == 0:
        failures.add(index, b"1", ValueError("x" * (index % 100)))
    journal.add(index, b'"' + b"i" * (index % 50) + b'"', b'"' + b"r" * (index % 500) + b'"')
    failures.recovered(index)
    if index % 50 == 49:
        failures.compact()
        journal.sort()
    print(index, flush=True)
"""

JOB = """
import os
import time

LAST = int(os.environ.get("LAST", "1000000"))

def work(x):
    if x > LAST:  # so far this run may come
        time.sleep(60)
    time.sleep(0.0002 * (x % 5))
    if x % 50 == 7:
        raise ValueError(x)
    return {"x": x, "text": "\\u00e9\\n" * (x % 20)}

def mended(x):
    return work(x) if x % 50 != 7 else {"x": x}
"""


def rows(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def test_what_was_written_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    """The kill strikes anywhere: in a write, in the replacement of a file."""
    chance = random.Random(1)
    reported = -1
    for _ in range(12):
        command = [sys.executable, "-c", WRITER]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "loaded\n", "what a kill left can be read"
            for _ in range(chance.randrange(400)):
                reported = max(reported, int(writer.stdout.readline()))
            writer.kill()
            for line in writer.stdout:
                with contextlib.suppress(ValueError):
                    reported = max(reported, int(line))
        lines = (tmp_path / "out").read_bytes().splitlines(keepends=True)
        whole = [json.loads(line)["index"] for line in lines if line.endswith(b"\n")]
        assert whole == list(range(len(whole)))
        assert len(whole) > reported
    assert reported > 100


class Job:
    """One `treadle map` over numbers, run and killed again and again in a directory."""

    def __init__(self, folder: Path, items: int, *options: str) -> None:
        self.folder = folder
        self.options = options
        (folder / "job.py").write_text(JOB)
        (folder / "in").write_text("".join(f"{number}\n" for number in range(items)))

    def command(self, output: str, function: str = "work") -> list[str]:
        args = [f"job:{function}", "in", "-o", output, "--resume", "--no-progress", *self.options]
        return [sys.executable, "-m", "treadle", "map", *args]

    def run(self, output: str, function: str = "work") -> int:
        command = self.command(output, function)
        return subprocess.run(command, cwd=self.folder, check=False, stderr=subprocess.DEVNULL, timeout=60).returncode

    def kill_after(self, lines: int, last: int) -> bool:
        """Start it, and kill it once it has written so many lines more; whether it was still running then.  On a busy
        machine that may be late: so it comes to the item `last` at most."""
        out = self.folder / "out"
        goal = lines + (out.read_bytes().count(b"\n") if out.exists() else 0)
        environ = {**os.environ, "LAST": str(last)}
        with subprocess.Popen(self.command("out"), cwd=self.folder, env=environ, stderr=subprocess.DEVNULL) as job:
            while job.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < goal):
                time.sleep(0.001)
            job.kill()
            return job.wait() < 0


def storm(folder: Path, kills: int, *options: str) -> None:
    """Interrupt one job so many times, finish it, and compare with a job that was left in peace."""
    chance = random.Random(kills)
    job = Job(folder, 60 * kills, *options)
    assert job.run("ref") == 1
    killed = sum(job.kill_after(chance.randrange(50), 60 * run + 54) for run in range(kills))
    assert killed == kills, "every run was interrupted"
    assert job.run("out") == 1

    ordered = "--unordered" not in options
    if ordered:
        assert (folder / "out").read_bytes() == (folder / "ref").read_bytes()
    assert sorted((folder / "out").read_bytes().splitlines()) == sorted((folder / "ref").read_bytes().splitlines())
    failed = [(row["index"], row["input"], row["message"]) for row in rows(folder / "out.errors.jsonl")]
    assert failed == [(x, x, str(x)) for x in range(60 * kills) if x % 50 == 7]

    assert job.run("out", "mended") == 0
    assert not (folder / "out.errors.jsonl").exists()
    indexes = [row["index"] for row in rows(folder / "out")]
    assert (indexes if ordered else sorted(indexes)) == list(range(60 * kills))
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        "job.py", "in", "ref", "ref.errors.jsonl", "out",
    }  # fmt: skip


@pytest.mark.parametrize("options", [["--engine", "threads"], ["--unordered", "--engine", "processes"]])
def test_a_job_that_was_killed_four_times(tmp_path: Path, options: list[str]) -> None:
    storm(tmp_path, 4, *options)


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--engine", "processes"],
        pytest.param(["--unordered"], marks=pytest.mark.by_hand),
        pytest.param(["--engine", "threads"], marks=pytest.mark.by_hand),
    ],
)
def test_a_job_that_was_killed_twenty_times(tmp_path: Path, options: list[str]) -> None:
    storm(tmp_path, 20, *options)
