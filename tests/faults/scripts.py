"""Programs of their own, for what a test can't do in its own process: be interrupted, be killed, leave.

Every process that a program starts inherits a mark in its environment, so what is left of it can be found, whatever
became of its parents.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARK = "TREADLE_TEST_RUN"


def wait_for(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """Ask until the answer is true; AssertionError if it isn't in time."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.003)
    return answer


def alive(pid: int) -> bool:
    """Is there such a process, and is it more than a zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def crowd() -> float:
    """How many want each CPU; 1.0 where there is one for everybody.

    Bounds are those of a machine that nobody else uses; where it is busy, what takes CPU time takes longer.
    """
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


class Program:
    """A Python program that runs `code`, and everything that it starts."""

    def __init__(
        self, code: str, folder: Path, how: str = "file", python: tuple[str, ...] = (), **environ: str
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = folder / f"t{self.mark[:6]}"  # short: with it, the path of a socket has little room
        self.temporary.mkdir()
        self.shm = set(os.listdir("/dev/shm"))
        code = textwrap.dedent(code)
        env = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary), "PYTHONPATH": str(HERE), **environ}
        env.pop("PYTHONFAULTHANDLER", None)
        command, feed = [sys.executable, *python], None
        if how == "-c":
            command += ["-c", code]
        elif how == "stdin":
            command += ["-"]
            feed = code
        else:
            path = folder / f"program_{self.mark[:8]}.py"
            path.write_text(code)
            command += [str(path)]
        # To files: a pipe would be held open by what the program leaves behind.
        self._out, self._err = (tempfile.TemporaryFile(dir=folder) for _ in (1, 2))  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        if feed is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(feed.encode())
            self.process.stdin.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    @property
    def out(self) -> str:
        return _read(self._out)

    @property
    def err(self) -> str:
        return _read(self._err)

    def said(self, text: str, seconds: float = 20.0) -> str:
        """Wait until it has printed this."""

        def look() -> bool:
            assert text in self.out or self.process.poll() is None, f"it ended ({self.process.returncode}): {self.err}"
            return text in self.out

        wait_for(look, seconds, f"{text!r} in {self.out!r}; stderr: {self.err}")
        return self.out

    def others(self) -> list[tuple[int, str]]:
        """The living processes that it has started, directly or not: pid and command line."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                with contextlib.suppress(OSError):
                    if self.mark.encode() in (entry / "environ").read_bytes() and alive(int(entry.name)):
                        found.append((int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")[:60]))
        return found

    def assert_gone(self, seconds: float = 2.0, spare: tuple[int, ...] = ()) -> float:
        """No process, no file in /dev/shm, no temporary file is left; how long it took.

        `seconds` are those of a machine that has a CPU for everybody.
        """
        begin = time.monotonic()
        seconds *= crowd()
        left: list[tuple[int, str]] = []

        def look() -> bool:
            left[:] = [p for p in self.others() if p[0] not in spare]
            return not left

        try:
            wait_for(look, seconds)
        except AssertionError:
            raise AssertionError(f"still there after {seconds:g} s: {left}") from None
        took = time.monotonic() - begin
        assert set(os.listdir("/dev/shm")) <= self.shm
        assert os.listdir(self.temporary) == []
        return took

    def end(self) -> None:
        """Whatever happened: leave nothing."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid, _ in self.others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.others(), 5)
        self._out.close()
        self._err.close()


def _read(file: Any) -> str:
    # Its place in the file is that of whoever writes, so it must not be moved.
    data: bytes = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    return data.decode(errors="replace")


@contextlib.contextmanager
def program(
    code: str, folder: Path, how: str = "file", python: tuple[str, ...] = (), **environ: str
) -> Iterator[Program]:
    """A `Program` that is ended with the block."""
    started = Program(code, folder, how, python, **environ)
    try:
        yield started
    finally:
        started.end()


def run(
    code: str, folder: Path, how: str = "file", python: tuple[str, ...] = (), seconds: float = 30.0
) -> tuple[int, str, str]:
    """Run it to its end, check that nothing is left; exit code, stdout, stderr."""
    with program(code, folder, how, python) as started:
        code_ = started.wait(seconds)
        started.assert_gone()
        return code_, started.out, started.err
