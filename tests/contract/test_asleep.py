"""When all threads of a program sleep for ever it says so; and it never says so of one that goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asleep_programs import GOES_ON, STUCK

RUN = [sys.executable, "-m", "treadle", "run"]
FIRST = "treadle: all asleep: every thread of this program waits, and nobody is left who could wake one of them."


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TREADLE_BOARD"} | more


def start(command: list[str], text: str, path: Path, **more: str) -> subprocess.Popen[str]:
    path.write_text(text)
    return subprocess.Popen(
        [*command, str(path)], stdin=-1, stdout=-1, stderr=-1, text=True, env=environment(**more), cwd=path.parent
    )


def test_it_is_said(tmp_path: Path) -> None:
    programs = {
        name: start([*RUN, "--on-stuck", "exit"], text, tmp_path / f"p{i}.py")
        for i, (name, text) in enumerate(STUCK.items())
    }
    said = {}
    for name, program in programs.items():
        out, said[name] = program.communicate(timeout=40)
        assert program.returncode == 70, (name, said[name])
        assert said[name].startswith(FIRST + "\n"), name
        assert said[name].endswith("It ends with exit code 70.\n"), name
        assert out == ("all eaten\n" if name == "forgotten consumer" else ""), name
    text = said["forgotten consumer"]
    assert "thread 'MainThread' is at the end of the program, and waits for the end of thread 'hungry' (join)" in text
    assert re.search(r"thread 'hungry' waits for an item of a Queue \(made at \S+/p0.py:6\), since \d", text)
    assert f"      {tmp_path}/p0.py:4 in consumer\n" in text
    assert said["nobody sets the event"].count("waits for Event (made at ") == 2
    text = said["a process that waits for its parent"]
    assert re.search(r"thread 'waits too' of process \d+ waits for an item of a shared Queue", text)
    assert re.search(r"thread 'MainThread' waits for the end of process 'waits too', pid \d+ \(join\)", text)
    # A queue tells where it was made, wherever it has travelled; what is made of others, what it is.
    text = said["a child of the fork server"]
    assert re.search(rf"process \d+ waits for an item of a shared Queue \(made at {tmp_path}/p\d+.py:3\)", text)
    assert re.search(rf"a shared Queue \(made at {tmp_path}/p\d+.py:2\)", said["a manager's queue"])
    assert "thread 'MainThread' waits for the result of a Future, since" in said["a future that nobody fulfils"]
    assert "thread 'early' waits for the others at a Barrier, since" in said["a barrier that nobody else comes to"]


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.heavy)])
def test_it_is_not_said_of_a_program_that_goes_on(kind: str, tmp_path: Path) -> None:
    chosen = {name: text for name, text in GOES_ON.items() if ("process" in text) == (kind == "processes")}
    programs = {
        name: start([*RUN, "--on-stuck", "exit"], text, tmp_path / f"p{i}.py")
        for i, (name, text) in enumerate(chosen.items())
    }
    time.sleep(2)  # the one that waits for input does so for as long as the others
    for name, program in programs.items():
        out, errors = program.communicate("a line\n", timeout=40)
        assert (program.returncode, out, errors) == (0, "", ""), name


def test_it_is_said_once_and_the_program_stays_as_it_is(tmp_path: Path) -> None:
    program = start(RUN, STUCK["nobody sets the event"], tmp_path / "program.py")
    assert program.stderr is not None
    began = time.monotonic()
    assert program.stderr.readline() == FIRST + "\n"
    assert time.monotonic() - began < 10  # two seconds, on a machine that is not busy
    time.sleep(2.5)
    assert program.poll() is None
    program.send_signal(signal.SIGINT)
    errors = program.stderr.read()
    program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert "It stays so for ever; Ctrl-C ends it." in errors
    assert "all asleep" not in errors, "once is enough"


@pytest.mark.parametrize(("variable", "code"), [("exit", 70), ("ignore", None)])
def test_without_run(variable: str, code: int | None, tmp_path: Path) -> None:
    text = "from treadle import threading\nthreading.Event().wait()\n"
    program = start([sys.executable], text, tmp_path / "program.py", TREADLE_ON_STUCK=variable)
    if code is None:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(2.5)
        program.terminate()
    _, errors = program.communicate(timeout=30)
    assert program.returncode == (code or -signal.SIGTERM)
    assert ("all asleep" in errors) == (code is not None)


def test_nonsense_is_refused() -> None:
    from treadle.diagnose import asleep

    with pytest.raises(ValueError, match="report, exit, ignore"):
        asleep.begin("panic")
    command = [*RUN, "--on-stuck", "panic", "x.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment())
    assert done.returncode == 2
