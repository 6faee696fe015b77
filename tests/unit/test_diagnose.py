"""``python -m treadle.diagnose``: who waits for whom in another process, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
from treadle import threading

vault = threading.Lock(name="vault")

def wants_it():
    with vault:
        pass

with vault:
    waiter = threading.Thread(target=wants_it, name="waiter")
    waiter.start()
    while "waiters=1" not in repr(vault):
        pass
    print("ready", flush=True)
    input()
waiter.join()
"""


@pytest.fixture
def waiting() -> Iterator[int]:
    """The pid of a program in which a thread waits for a lock that the main thread holds."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(20) == 0


def diagnose(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "treadle.diagnose", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_it_names_who_waits_for_what_and_who_holds_it(waiting: int) -> None:
    ran = diagnose(str(waiting))
    assert ran.returncode == 0, ran.stderr
    assert f"process {waiting}" in ran.stdout
    assert "'waiter'" in ran.stdout
    assert "vault" in ran.stdout
    assert "MainThread" in ran.stdout.partition("held by")[2]


def test_it_says_so_when_a_process_does_not_use_treadle() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ran = diagnose(str(process.pid))
        process.communicate(b"\n")
    assert ran.returncode == 2
    assert str(process.pid) in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("arguments", [["x"], ["1", "2"]])
def test_other_arguments_are_a_usage_error(arguments: list[str]) -> None:
    ran = diagnose(*arguments)
    assert ran.returncode == 2
    assert "usage" in ran.stderr


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert diagnose(str(process.pid)).returncode == 2
    assert not os.path.exists(f"/proc/{process.pid}")
