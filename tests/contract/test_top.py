"""``treadle top``: figures that are true, in a terminal of any size, and without one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # it looks from outside, at what the core says

PROGRAM = Path(__file__).parent / "why_programs" / "busy.py"
ALONE = {key: value for key, value in os.environ.items() if key != "TREADLE_BOARD"}  # not in the session of the tests
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def started(path: Path) -> Iterator[int]:
    """The pid of a program that says when it is ready, and ends when its input does."""
    with subprocess.Popen(
        [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ALONE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture
def busy() -> Iterator[int]:
    """The pid of a program at work."""
    with started(PROGRAM) as pid:
        yield pid


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "treadle", "top", *arguments]
    environment = {**ALONE, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_once_shows_what_is_true(busy: int) -> None:
    until = time.monotonic() + 30
    while True:  # at the moment of a look, a worker may be between two tasks
        ran = top("--once", str(busy))
        assert ran.returncode == 0, ran.stderr
        text = ran.stdout
        if "work (busy.py:10)" in text:
            break
        assert time.monotonic() < until, text
    pool = next(line for line in text.splitlines() if "treadle-pool-1 (processes)" in line)
    workers, _, done, rate, failed, restarts = pool.split()[2:8]
    assert workers == "2/2"
    assert int(done) > 0 and float(rate) > 0
    assert (failed, restarts) == ("0", "0")
    found = re.search(r"shared Queue \(made at busy\.py:33\) +(\d+) +10 +([\d.,]+) +([\d.,]+) ", text)
    assert found, text
    assert 1 <= int(found[1]) <= 10
    assert float(found[2]) > 0 and float(found[3]) > 0
    vault = re.search(r"Lock 'vault' \(made at busy\.py:\d+\) +(?:-|thread .* of process \d+) +(\d+) ", text)
    assert vault and 1 <= int(vault[1]) <= 3, text
    assert "'eater'" in text
    assert re.search(rf"{busy} .*busy\.py .* MiB", text)


def test_without_a_terminal_it_prints_one_picture(busy: int) -> None:
    ran = top(str(busy), "--interval", "0.1")
    assert ran.returncode == 0
    assert ran.stdout.count("treadle-pool-1") == 1
    assert "\x1b" not in ran.stdout


def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    ran = top("--once", str(process.pid))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "there is no process" in ran.stderr


class Terminal:
    """A pseudo-terminal in which the command runs."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master = master
        self.process = process
        self.read = b""  # as it came: an escape sequence, or a letter, may come in two pieces

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def until(self, wanted: str, seconds: float = 30.0) -> str:
        """Read until that was shown; what was read since the last time."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} was not shown:\n{self.text}"
            ready, _, _ = select.select([self.master], [], [], 1.0)
            if ready:
                try:
                    self.read += os.read(self.master, 1 << 16)
                except OSError:  # it has left
                    break
        found = self.text
        assert wanted in found
        self.read = b""
        return found

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.read.decode(errors="replace"))


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    before = termios.tcgetattr(slave)
    environment = {key: value for key, value in ALONE.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment["TERM"] = "xterm"
    command = [sys.executable, "-m", "treadle", "top", "--interval", "0.2", *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        try:
            yield Terminal(master, process)
            assert process.wait(20) == 0
            assert termios.tcgetattr(slave) == before  # the terminal is as it was
        finally:
            process.kill()
            os.close(master)
            os.close(slave)


def test_live_in_a_terminal_with_keys_and_resizing(busy: int) -> None:
    with terminal(str(busy)) as screen:
        screen.until("(now CPU)")
        screen.until("treadle-pool-1")
        os.write(screen.master, b"m")
        screen.until("(now memory)")
        os.write(screen.master, b"x")  # means nothing
        screen.resize(30, 70)
        until = time.monotonic() + 30
        while True:  # wide pictures may be on their way still
            lines = [line.rstrip("\r") for line in screen.until("(now memory)").split("\n")]
            if max(map(len, lines)) <= 70 and len(lines) <= 31:
                break
            assert time.monotonic() < until, lines
        os.write(screen.master, b"q")


def test_it_leaves_when_the_program_ends() -> None:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ALONE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with terminal(str(process.pid)) as screen:
            screen.until("(now CPU)")
            process.stdin.close()
            screen.until(f"process {process.pid} has ended")
        assert process.wait(30) == 0


USED = """
import sys, threading as plain
from treadle import queue, threading

vault, bench = threading.Lock(name="vault"), threading.RLock(name="bench")
line, narrow, ranked = queue.Queue(), queue.Queue(5), queue.PriorityQueue()
over = plain.Event()


def every(seconds):
    while not over.wait(seconds):
        yield


def put():
    for _ in every(0.01):
        line.put(0), ranked.put(0)


def get():
    for _ in every(0.02):
        line.get(), ranked.get()


def squeeze():
    while not over.is_set():
        narrow.put(0)


def drain():
    for _ in every(0.005):
        narrow.get()


def hold(lock):
    while not over.is_set():
        with lock:
            over.wait(0.01)
        over.wait(0.001)


work = [(put,), (get,), (squeeze,), (drain,), (hold, vault), (hold, vault), (hold, bench), (hold, bench)]
threads = [threading.Thread(target=f, args=args, daemon=True) for f, *args in work]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.read()
over.set()
"""


@pytest.fixture
def used(tmp_path: Path) -> Iterator[int]:
    """A program with queues and locks of its own that are used at a steady rate."""
    path = tmp_path / "used.py"
    path.write_text(USED)
    with started(path) as pid:
        yield pid


def test_queues_and_locks_of_one_process_have_figures_while_somebody_looks(used: int) -> None:
    ran = top("--once", str(used))
    assert ran.returncode == 0, ran.stderr
    text = ran.stdout
    lines = [line for line in text.splitlines() if line.strip().startswith("Queue (made at used.py:6)")]
    assert len(lines) == 3, text  # one without a limit, one of five, and one that works in Python
    figures = [re.split(r"\s{2,}", line.strip())[1:] for line in lines]
    for depth, of, put, get, oldest, *_ in figures:
        # A machine may be slow, so nothing here is a bound from above but what the program itself bounds.
        assert float(put.replace(",", "")) > 0 and float(get.replace(",", "")) > 0, text
        if of == "5":
            assert 0 <= int(depth) <= 5
        else:  # twice as much is put as is got
            assert int(depth) > 0 and oldest.startswith(">= ")
    assert sorted(of for _, of, *_ in figures) == ["-", "-", "5"]
    for kind in ("Lock 'vault'", "RLock 'bench'"):
        (line,) = (line for line in text.splitlines() if line.strip().startswith(kind))
        waits, wait, hold = re.split(r"\s{2,}", line.strip())[-3:]
        assert float(waits) > 0
        assert in_ms(wait) > 0 and in_ms(hold) >= 10, line  # it is held for ten, and an instant


def in_ms(text: str) -> float:
    value, unit = text.split()
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def test_nothing_is_counted_once_nobody_looks(used: int) -> None:
    from treadle._native import _core
    from treadle.diagnose import gauges, processes

    gauges.watch(used, 0.2)
    (board,) = (board for board in processes.boards() if used in board.pids)
    until = time.monotonic() + 30
    while True:  # what is under way when the watch ends may be counted still
        before = _core.board_gauges(board.path)
        time.sleep(0.3)
        if before and _core.board_gauges(board.path) == before:
            break
        assert time.monotonic() < until
    again = gauges.watch(used, 5)  # a new watch begins anew
    assert not again
    while not gauges.watch(used, 5):
        assert time.monotonic() < until
        time.sleep(0.01)
