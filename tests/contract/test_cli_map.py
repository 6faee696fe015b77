"""`treadle map` as a user types it: a process of its own, the real pool, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

JOBS = """
import os, signal, sys, threading, time
from pathlib import Path

lock = threading.Lock()  # can't be pickled, and need not be

class Odd(Exception):
    def __init__(self, number, why):
        super().__init__(number, why)

def double(x):
    with lock:
        return x * 2

def trouble(x):
    if x == 1: raise Odd(x, "two required arguments")
    if x == 3: os.kill(os.getpid(), signal.SIGKILL)
    if x == 5: sys.exit(4)
    if x == 7: return {1, 2}
    if x == 9: raise ValueError(lock)
    if x == 11:
        while True: pass
    return x

def waits(x):
    time.sleep(0.02)
    return x

def computes(x):
    return sum(range(400_000)) + x

def blocks(x):
    if x == 2:
        Path("blocked").touch()
        time.sleep(600)
    return x

def pid(x):
    return os.getpid()
"""

Treadle = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's directory, with the module `jobs` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def treadle(folder: Path) -> Treadle:
    """Runs `treadle map ARGS`, with `stdin` as its standard input, to its end."""

    def run(*args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*args), input=stdin, capture_output=True, text=True, check=False, timeout=50)

    return run


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "treadle", "map", *map(str, args)]


def numbers(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


def rows(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


@contextmanager
def running(*args: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A running `treadle map`; at the end nothing of it is left, or the test fails."""
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **options}
    process = subprocess.Popen(command(*args), start_new_session=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 5
        while left := [p for p in psutil.process_iter() if session_of(p) == process.pid]:
            assert time.monotonic() < deadline, f"{left} are still there"
            time.sleep(0.01)


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, psutil.Error):
        return None


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("engine", ["auto", "threads", "processes"])
@pytest.mark.parametrize("order", ["--ordered", "--unordered"])
@pytest.mark.parametrize("target", ["jobs:double", "./jobs.py:double"])
def test_every_item_has_its_result(treadle: Treadle, engine: str, order: str, target: str) -> None:
    ran = treadle(target, "-o", "out", "--engine", engine, order, stdin=numbers(300))
    assert ran.returncode == 0, ran.stderr
    found = rows("out")
    if order == "--unordered":
        found.sort(key=lambda row: row["index"])
    assert found == [{"index": i, "input": i, "result": 2 * i} for i in range(300)]
    assert "300 done in" in ran.stderr
    assert ran.stdout == ""


def test_every_sort_of_failure_spoils_its_item_only(treadle: Treadle) -> None:
    ran = treadle("jobs:trouble", "-o", "out", "--engine", "processes", "--timeout", 1, stdin=numbers(20))
    assert ran.returncode == 1, ran.stderr
    assert [row["index"] for row in rows("out")] == [i for i in range(20) if i not in (1, 3, 5, 7, 9, 11)]
    errors = rows("out.errors.jsonl")
    assert [(row["index"], row["input"], row["type"], row["attempts"]) for row in errors] == [
        (1, 1, "jobs.Odd", 1),
        (3, 3, "WorkerDied", 1),
        (5, 5, "WorkerDied", 1),
        (7, 7, "ResultNotJson", 1),
        (9, 9, "ValueError", 1),
        (11, 11, "TaskTimeout", 1),
    ]
    assert "two required arguments" in errors[0]["message"]
    assert errors[0]["traceback"].splitlines()[1].endswith(", in trouble"), "the user's own frames, and no others"
    assert "SIGKILL" in errors[1]["message"]
    assert "code 4" in errors[2]["message"]
    assert "is not JSON" in errors[3]["message"]
    assert "1 s" in errors[5]["message"]
    assert "14 done, 6 failed" in ran.stderr
    assert "out.errors.jsonl" in ran.stderr


def test_retries_are_counted(treadle: Treadle) -> None:
    ran = treadle("jobs:trouble", "-o", "out", "--engine", "processes", "--retries", 2, stdin="1\n3\n")
    assert ran.returncode == 1
    assert [row["attempts"] for row in rows("out.errors.jsonl")] == [3, 3]


@pytest.mark.parametrize(("function", "engine"), [("waits", "threads"), ("computes", "processes")])
def test_the_engine_that_was_chosen_is_told_with_the_reason(treadle: Treadle, function: str, engine: str) -> None:
    ran = treadle(f"jobs:{function}", "-o", "out", stdin=numbers(30))
    assert ran.returncode == 0
    assert f"; {engine}: " in ran.stderr
    assert "of the first" in ran.stderr


def test_workers_bound_how_many_processes_there_are(treadle: Treadle) -> None:
    ran = treadle("jobs:pid", "--engine", "processes", "--workers", 1, "--no-progress", stdin=numbers(50))
    assert len({json.loads(line)["result"] for line in ran.stdout.splitlines()}) == 1
    assert ran.stderr == ""


@pytest.mark.parametrize("engine", ["threads", "processes"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_job_at_once_in_one_line(folder: Path, engine: str, signum: int, code: int) -> None:
    (folder / "in").write_text(numbers(10))
    with running("jobs:blocks", "in", "-o", "out", "--engine", engine) as process:
        wait_for(lambda: Path("blocked").exists() and Path("out").read_bytes().count(b"\n") == 2, process)
        began = time.monotonic()
        process.send_signal(signum)
        _, errors = process.communicate(timeout=10)
        took = time.monotonic() - began
    assert process.returncode == code
    assert len(errors.splitlines()) == 1, errors
    assert "2 results are in out, and --resume goes on from there" in errors
    assert took < 2, "half a second is meant; the rest is for a busy machine"
    assert [row["index"] for row in rows("out")] == [0, 1]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_module_is_imported(folder: Path, signum: int, code: int) -> None:
    (folder / "slow_module.py").write_text("import jobs\njobs.blocks(2)\n")
    with running("slow_module:f", "jobs.py", "-o", "out") as process:
        wait_for(Path("blocked").exists, process)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=10)
    why = "interrupted" if signum == signal.SIGINT else "stopped by SIGTERM"
    assert (process.returncode, errors) == (code, f"treadle map: {why} before there was a result\n")
    assert not Path("out").exists()


@pytest.mark.parametrize("engine", ["auto", "threads", "processes"])
def test_an_input_that_pauses_does_not_hold_back_results_nor_the_end(folder: Path, engine: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running("jobs:double", "-", "--no-progress", "--engine", engine, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["result"] == 2 * number, "before the next one is asked for"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130, "though it waits for input"
        assert process.stderr is not None
        assert process.stderr.read() == "treadle map: interrupted after 3 results\n"


def test_ctrl_c_from_the_terminal_reaches_every_process_and_is_still_one_line(folder: Path) -> None:
    (folder / "in").write_text(numbers(10))
    with running("jobs:blocks", "in", "-o", "out", "--engine", "processes") as process:
        wait_for(lambda: Path("blocked").exists() and Path("out").read_bytes().count(b"\n") == 2, process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1, errors


def test_a_reader_that_has_enough_ends_the_job_quietly(folder: Path) -> None:
    (folder / "in").write_text(numbers(100_000))
    with running("jobs:double", "in", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["index"] == 0
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert [line for line in lines if not line.startswith("treadle map double: ")] == []


def test_a_second_run_on_the_same_output_is_refused(folder: Path, treadle: Treadle) -> None:
    (folder / "in").write_text(numbers(10))
    with running("jobs:blocks", "in", "-o", "out", "--engine", "processes") as process:
        wait_for(lambda: Path("blocked").exists() and Path("out").read_bytes().count(b"\n") == 2, process)
        second = treadle("jobs:double", "in", "-o", "out", "--resume")
        assert second.returncode == 2
        assert "another treadle is writing" in second.stderr
        process.kill()
        process.wait()
        third = treadle("jobs:pid", "in", "-o", "out", "--resume")
        assert third.returncode == 0, "a killed run lets go at once, though a worker of it may live a moment longer"
    assert [row["index"] for row in rows("out")] == list(range(10))


def test_an_empty_input_is_no_work_and_no_error(treadle: Treadle) -> None:
    ran = treadle("jobs:double", "-o", "out")
    assert ran.returncode == 0
    assert Path("out").read_bytes() == b""
    assert "0 done" in ran.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere_to_be_found:f"], "no module"),
        (["jobs:nope"], "has no function"),
        (["jobs:lock"], "is not a function"),
        (["jobs:double", "--workers", "-2"], "-2"),
        (["jobs:double", "--engine", "quantum"], "quantum"),
        (["jobs:double", "missing"], "missing"),
    ],
)
def test_bad_input_is_one_sentence(treadle: Treadle, args: list[str], words: str) -> None:
    ran = treadle(*args)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
