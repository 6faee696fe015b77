"""CPython's suites that a run of the tests has chosen, three at a time: most of the time they wait, not compute."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HARNESS = Path(__file__).with_name("harness.py")
AT_ONCE = 3
END = 20  # seconds after which a suite that has dumped its stacks must be gone


class Suite(NamedTuple):
    """What the harness is asked for, and within how many seconds it must be done."""

    arguments: tuple[str, ...]
    seconds: int


class Suites:
    """Whoever asks for the first one has all of them started, in the order in which the tests come."""

    def __init__(self, chosen: list[Suite]) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._over = False
        # A copy: pytest tells the environment which test runs, and to start a program beside that, from the environment
        # that C knows, fails if the two meet (EFAULT).
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self._started: dict[Suite, Future[tuple[int, str]]] = {s: self._threads.submit(self._run, s) for s in chosen}

    def _run(self, suite: Suite) -> tuple[int, str]:
        command = [sys.executable, str(HARNESS), *suite.arguments, "--seconds", str(suite.seconds)]
        with tempfile.TemporaryFile() as out:  # not a pipe: whom it starts may outlive it, and hold the other end
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=self._environment
            )
            self._running.add(process)
            try:
                if self._over:
                    self._kill(process)
                code = process.wait(suite.seconds + END)
            finally:
                self._kill(process)
                self._running.discard(process)
            out.seek(0)
            return code, out.read().decode(errors="replace")

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        """It, if it still runs, and what it has left in its session's first group."""
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def counts(self, suite: Suite) -> dict[str, Any]:
        """What the harness says at its end; it must have succeeded."""
        code, text = self._started[suite].result()
        found = next((json.loads(line) for line in reversed(text.splitlines()) if line.startswith('{"run"')), None)
        assert found is not None, text[-8000:]
        assert found["failed"] == [] and code == 0, text[-8000:]
        return found

    def close(self) -> None:
        self._over = True
        for process in list(self._running):
            self._kill(process)
        self._threads.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest) -> Iterator[Suites]:
    mine = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    opened = Suites([item.callspec.params["suite"] for item in mine if "suite" in item.callspec.params])
    yield opened
    opened.close()
