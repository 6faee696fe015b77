"""Ctrl-C: everything ends in under half a second, with one traceback and no orphan."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from scripts import HERE, Program, program, wait_for

import treadle

ENGINES = ("threads", "processes", "auto")
SECONDS = 0.5

LONG = """
import os, sys, time, treadle
def long(x):
    print("running", flush=True)
    time.sleep(30)
def main():
    {body}
    print("not reached", flush=True)
main()
"""

BODIES = {
    "map": "list(treadle.map(long, range(100), engine={engine!r}, workers=2))",
    "map-unordered": "list(treadle.map(long, range(100), engine={engine!r}, workers=2, ordered=False))",
    "pool-map": "pool = treadle.Pool(2, engine={engine!r}); list(pool.map(long, range(100)))",
    "result": "pool = treadle.Pool(2, engine={engine!r}); [pool.submit(long, i) for i in range(100)][0].result()",
    "with": "with treadle.Pool(2, engine={engine!r}) as pool:\n        for i in range(100): pool.submit(long, i)",
    "shutdown": "pool = treadle.Pool(2, engine={engine!r}); [pool.submit(long, x) for x in (1, 2)]; pool.shutdown()",
    "as_completed": "from concurrent.futures import as_completed; pool = treadle.Pool(2, engine={engine!r});"
    " list(as_completed([pool.submit(long, i) for i in range(100)]))",
    "amap": "import asyncio; pool = treadle.Pool(2, engine={engine!r})\n"
    "    async def run(): return [x async for x in pool.amap(long, range(100))]\n    asyncio.run(run())",
    "sleep": "pool = treadle.Pool(2, engine={engine!r}); pool.submit(long, 1); pool.submit(long, 2); time.sleep(30)",
}


def interrupt(started: Program, running: int, group: bool = False) -> float:
    """Send SIGINT once so many tasks run; seconds that the program took to end."""
    wait_for(lambda: started.out.count("running") >= running or started.process.poll() is not None, 20, "tasks run")
    assert started.process.poll() is None, started.err
    begin = time.monotonic()
    (os.killpg if group else os.kill)(started.pid, signal.SIGINT)
    started.wait(20)
    return time.monotonic() - begin


def check(started: Program, took: float, tracebacks: int = 1) -> None:
    assert took < SECONDS, f"{took:.2f} s\n{started.err}"
    assert started.process.returncode == -signal.SIGINT
    assert started.err.count("Traceback (most recent call last)") == tracebacks, started.err
    assert started.err.rstrip().endswith("KeyboardInterrupt"), started.err
    assert "Exception ignored" not in started.err
    assert "not reached" not in started.out
    started.assert_gone(0.5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("body", BODIES)
def test_in(body: str, engine: str, tmp_path: Path) -> None:
    with program(LONG.format(body=BODIES[body].format(engine=engine)), tmp_path) as started:
        # asyncio's own runner chains a second one to it.
        check(started, interrupt(started, 2), tracebacks=2 if body == "amap" else 1)


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_of_the_whole_process_group(method: str, tmp_path: Path) -> None:
    """As a terminal does it."""
    body = f"list(treadle.map(long, range(100), engine='processes', workers=3, start_method={method!r}))"
    with program(LONG.format(body=body), tmp_path) as started:
        check(started, interrupt(started, 3, group=True))


def test_in_a_terminal(tmp_path: Path) -> None:
    """The character ^C, typed at a terminal in whose foreground the program runs."""
    script = tmp_path / "script.py"
    script.write_text(LONG.format(body="list(treadle.map(long, range(100), engine='processes', workers=2))"))
    terminal, theirs = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),
        env={**os.environ, "PYTHON_COLORS": "0"},
    )
    os.close(theirs)
    text = b""

    def read() -> bool:
        nonlocal text
        try:
            text += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return False
        return True

    while text.count(b"running") < 2:
        assert read(), text
    begin = time.monotonic()
    os.write(terminal, b"\x03")
    while read():
        pass
    code = started.wait(20)
    took = time.monotonic() - begin
    os.close(terminal)
    assert code == -signal.SIGINT
    assert text.count(b"Traceback") == 1 and text.rstrip().endswith(b"KeyboardInterrupt"), text
    assert took < SECONDS


def test_while_tasks_run_in_c_and_ignore_signals(tmp_path: Path) -> None:
    code = """
    import fault_work, treadle
    gates = [("c", "one"), ("signals", "two"), ("catches", "three")]
    print("running", flush=True)
    list(treadle.map(fault_work.hang_in_mode, *zip(*gates), engine="processes", workers=3))
    """
    with program(code, tmp_path) as started:
        wait_for(lambda: all((tmp_path / n).exists() for n in ("one", "two", "three")), 20)
        check(started, interrupt(started, 1))


def test_programs_that_tasks_have_started_end_too(tmp_path: Path) -> None:
    code = """
    import subprocess, treadle
    def task(x):
        child = subprocess.Popen(["sleep", "1000"])
        print("running", flush=True)
        child.wait()
    list(treadle.map(task, range(4), engine="processes", workers=2))
    """
    with program(code, tmp_path) as started:
        took = interrupt(started, 2)
        check(started, took)


def test_finishing_work_at_the_end_of_the_program_can_be_interrupted(tmp_path: Path) -> None:
    code = """
    import time, treadle
    def long(x):
        print("running", flush=True)
        time.sleep(30)
    pool = treadle.Pool(2, engine="processes")
    for i in range(100): pool.submit(long, i)
    """
    with program(code, tmp_path) as started:
        took = interrupt(started, 2)
        assert took < SECONDS
        assert started.err.count("Traceback (most recent call last)") <= 1, started.err
        started.assert_gone(0.5)


RANDOM = """
import sys, time, treadle
def short(x):
    time.sleep(0.002)
    return x
# In the first round things are imported, and Python itself loses an interrupt in the import lock's callback.
first = True
while True:
    assert list(treadle.map(short, range(20), engine={engine!r}, workers=2)) == list(range(20))
    with treadle.Pool(2, engine={engine!r}) as pool:
        futures = [pool.submit(short, i) for i in range(20)]
        assert [f.result() for f in futures] == list(range(20))
    if first:
        print("ready", flush=True)
        first = False
"""


@pytest.mark.timeout(400)
# By hand, because Python itself now and then loses a signal that comes while it imports; `test_before_every_few_lines`
# covers our own code, line by line, and always in the same way.
@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.parametrize("times", [12, 200])
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_at_random_moments(engine: str, times: int, tmp_path: Path) -> None:
    chance = random.Random()
    slow = []
    for _ in range(times):
        with program(RANDOM.format(engine=engine), tmp_path) as started:
            started.said("ready")
            moment = time.monotonic() + chance.uniform(0, 0.25)
            while time.monotonic() < moment:
                pass
            begin = time.monotonic()
            os.kill(started.pid, signal.SIGINT)
            started.wait(20)
            took = time.monotonic() - begin
            if took > SECONDS:
                slow.append(took)
            assert started.process.returncode == -signal.SIGINT, started.err
            assert started.err.count("Traceback (most recent call last)") == 1, started.err
            started.assert_gone(1.0)
    assert not slow


class InterruptsItsLoader:
    """A result during whose loading Ctrl-C arrives."""

    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGINT,)


def interrupting(x: int) -> Any:
    return InterruptsItsLoader() if x == 3 else x


def test_while_a_result_is_loaded() -> None:
    """It is not taken for an error of that item."""
    for on_error in ("return", "skip", "raise"):
        results = treadle.map(interrupting, range(10), engine="processes", workers=1, on_error=on_error)  # type: ignore[arg-type]
        assert [next(results), next(results), next(results)] == [0, 1, 2]
        with pytest.raises(KeyboardInterrupt):
            next(results)
        results.close()


# What is left to chance above is done exhaustively here: an interrupt before each line of our own code that the main
# thread runs.  (Not before the end of a `with lock:`, where Python itself handles no signal.)
EVERY_LINE = (HERE / "every_line.py").read_text()


@pytest.mark.timeout(170)
@pytest.mark.parametrize("scenario", ["submit", "map", "cancel"])
@pytest.mark.parametrize(("engine", "step"), [("threads", 7), ("processes", 17)])
def test_before_every_few_lines(engine: str, step: int, scenario: str, tmp_path: Path) -> None:
    with program(EVERY_LINE, tmp_path, TREADLE_EVERY=f"{engine} {scenario} 1 {step}") as started:
        started.wait(160)
        assert started.process.returncode == 0, started.out + started.err[-3000:]
        assert "complete" in started.out and "LEFT" not in started.out and "SLOW" not in started.out, started.out
        started.assert_gone()


@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("scenario", ["submit", "map", "cancel"])
@pytest.mark.parametrize("engine", ENGINES)
def test_before_every_line(engine: str, scenario: str, tmp_path: Path) -> None:
    with program(EVERY_LINE, tmp_path, TREADLE_EVERY=f"{engine} {scenario} 1 1") as started:
        started.wait(1400)
        assert started.process.returncode == 0, started.out + started.err[-3000:]
        assert "complete" in started.out and "LEFT" not in started.out and "SLOW" not in started.out, started.out
        started.assert_gone()
