"""``treadle why``: its first line names the cause; what it can't look at it says in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.once  # it looks from outside, at what the core says

PROGRAMS = Path(__file__).parent / "why_programs"
ALONE = {key: value for key, value in os.environ.items() if key != "TREADLE_BOARD"}  # not in the session of the tests
LOOKS = 8
WITHIN = 20.0  # seconds until a program is where it stays; a machine may be busy


@contextmanager
def running(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of `why_programs` that has said that it is ready, and is killed in the end, with its children."""
    command = [sys.executable, "-W", "ignore", str(PROGRAMS / f"{name}.py"), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ALONE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def why(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "treadle", "why", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=ALONE)


def why_until(wanted: str, *arguments: str) -> str:
    """Its output as soon as the first line begins with `wanted`, or the last one."""
    until = time.monotonic() + WITHIN
    while True:
        ran = why(*arguments)
        if ran.stdout.startswith(wanted) or time.monotonic() > until:
            assert ran.returncode == 1, ran.stdout + ran.stderr
            return ran.stdout


def first(text: str) -> str:
    return text.partition("\n")[0]


def test_a_deadlock_of_two_processes() -> None:
    with running("deadlock") as process:
        line = first(why_until("deadlock: ", str(process.pid)))
    for part in ("2 threads of 2 processes", "'clerk'", "'checking'", "'savings'", str(process.pid), "deadlock.py:"):
        assert part in line


def test_a_forgotten_consumer() -> None:
    with running("forgotten") as process:
        text = why_until("forgotten consumer: ", str(process.pid))
    line = first(text)
    assert "'consumer'" in line
    assert "forgotten.py:8" in line
    assert "nobody is left who could put one in" in line
    assert "forgotten.py:18 in consume" in text  # where it waits


def test_a_worker_that_hangs_in_c() -> None:
    with running("hang") as process:
        text = why_until("worker hangs: ", "--long", "0.3", str(process.pid))
    line = first(text)
    assert "task 4, square (hang.py:8)" in line
    assert "C code" in line
    assert "all other workers are idle" in line
    assert "7 done" in text
    assert "waits for  the next result of a pool's map" in text


def test_a_lock_whose_owner_was_killed() -> None:
    with running("killed") as process:
        line = first(why_until("dead owner: ", str(process.pid)))
    for part in ("'worker'", "died while it held Lock 'ledger'", "killed.py:", "waits for Event"):
        assert part in line


def test_a_process_that_was_stopped() -> None:
    with running("holds") as process:
        owner = int(process.stdout.readline()) if process.stdout is not None else 0
        assert why(str(process.pid)).returncode == 0
        os.kill(owner, signal.SIGSTOP)
        line = first(why_until("stopped: ", str(process.pid)))
    assert f"process {owner}" in line
    assert f"kill -CONT {owner}" in line
    assert "'vault'" in line


def test_a_server_that_waits_for_a_signal() -> None:
    with running("signalled") as process:
        until = time.monotonic() + WITHIN
        while True:
            ran = why("--json", str(process.pid))
            (session,) = json.loads(ran.stdout)["sessions"]
            (main,) = session["processes"]
            if all(thread["wait"] is not None for thread in main["threads"]):
                break
            assert time.monotonic() < until, ran.stdout
        assert ran.returncode == 0, ran.stdout
        assert session["causes"] == []
        assert session["summary"].startswith("nothing is stuck, as long as a signal may come (SIGTERM): 2 wait; ")
        assert main["handles"] == [signal.SIGTERM]
        process.terminate()
        assert process.wait(20) == 0


def test_any_process_of_the_program_will_do() -> None:
    with running("hang") as process:
        seen = json.loads(why("--json", str(process.pid)).stdout)["sessions"][0]
        worker = next(each["pid"] for each in seen["processes"] if each["role"] == "worker")
        text = why(str(worker)).stdout
    assert f"process {worker} belongs to the program of process {process.pid}" in text


def test_json_has_the_keys_that_are_documented() -> None:
    with running("hang") as process:
        ran = why("--json", "--long", "0", str(process.pid))
    data: dict[str, Any] = json.loads(ran.stdout)
    assert data["schema"] == 1
    (session,) = data["sessions"]
    assert set(session) == {
        "schema", "time", "main", "summary", "causes", "processes", "pools", "events", "gone", "strangers",
    }  # fmt: skip
    assert session["main"] == process.pid
    (pool,) = session["pools"]
    assert set(pool) == {
        "token", "pid", "name", "engine", "workers", "limit", "queued", "done", "failed", "cancelled", "restarts",
        "retrying",
    }  # fmt: skip
    assert (pool["engine"], pool["limit"], pool["pid"]) == ("processes", 2, process.pid)
    (main,) = [each for each in session["processes"] if each["pid"] == process.pid]
    assert set(main) == {
        "pid", "parent", "role", "name", "command", "state", "cpu_seconds", "rss", "handles", "threads",
    }  # fmt: skip
    thread = main["threads"][0]
    assert set(thread) == {
        "tid", "name", "role", "token", "pool", "state", "sleeps_in", "cpu_seconds", "task", "wait",
    }  # fmt: skip
    assert set(thread["wait"]) == {
        "kind", "what", "seconds", "timed", "owner", "bare", "private", "object", "stack",
    }  # fmt: skip
    tasks = [t["task"] for each in session["processes"] for t in each["threads"] if t["task"] is not None]
    assert [(task["number"], task["function"]) for task in tasks] == [(4, "square (hang.py:8)")]
    described = (Path(__file__).parents[2] / "docs" / "why.md").read_text()
    for keys in (session, pool, main, thread, thread["wait"], tasks[0]):
        for key in keys:
            assert f"`{key}`" in described


def test_without_pid_all_programs_of_this_user() -> None:
    with running("forgotten") as process:
        ran = why()
    assert f"== process {process.pid}" in ran.stdout
    assert "forgotten consumer" in ran.stdout


def test_a_process_that_does_not_use_treadle() -> None:
    # Without its parent, which uses treadle: the tests.
    script = [sys.executable, "-c", "import os\nif os.fork() == 0: print(os.getpid(), flush=True); input()"]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.wait(20)
        ran = why(str(pid))
        process.communicate(b"\n")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert f"process {pid}" in ran.stderr
    assert "treadle run" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_child_that_does_not_use_treadle_leads_to_its_parent() -> None:
    with running("stranger") as process:
        child = int(process.stdout.readline()) if process.stdout is not None else 0
        ran = why(str(child))
        process.stdin.close() if process.stdin is not None else None
        process.wait(20)
    assert ran.returncode == 2
    assert f"treadle why {process.pid}" in ran.stderr


def test_processes_that_are_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        zombie = why(str(process.pid))
    gone = why(str(process.pid))
    assert (zombie.returncode, gone.returncode) == (2, 2)
    assert "has ended" in zombie.stderr
    assert "there is no process" in gone.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_processes_of_others() -> None:
    code = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from treadle.diagnose import picture, processes\n"
        f"print(processes.owner_name({os.getpid()}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"import treadle.diagnose.picture\n{code}"], capture_output=True, text=True
    )
    assert ran.stdout == "root\n", ran.stderr


def test_a_looker_that_belongs_to_the_session_does_not_count() -> None:
    """A program that has itself looked at hands its board on to the command, which must not take itself for a thread
    of the program that may still do something."""
    with running("forgotten", "look") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("forgotten consumer: ")


@pytest.mark.heavy
def test_a_large_program_is_not_disturbed() -> None:
    """8 processes with 100 threads in all do what they would do anyhow, while somebody looks all the time."""
    with running("crowd") as process:
        for _ in range(LOOKS):
            ran = why("--json", str(process.pid))
            assert ran.returncode == 0, ran.stdout + ran.stderr
            (session,) = json.loads(ran.stdout)["sessions"]
            known = [t for each in session["processes"] for t in each["threads"] if t["role"] == ""]
            assert len(known) >= 100
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        line = process.stdout.read()
        assert process.wait(30) == 0
    assert "every item came, once" in line
