"""A process that records is killed at a named point of the core; what is left of the recording, and can one begin anew?

    python trace_points.py begins|works|runs POINT:N

Needs a build with TREADLE_POINTS=1.  `begins`: a child begins a recording of the session, and ends it.  `works`: a
worker of the pool that is recorded.  `runs`: a program that records itself.  Prints "ok", and whether the kill came.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import treadle
from treadle import multiprocessing
from treadle._native import _core
from treadle.errors import WorkerDied
from treadle.recording import Recorder, recorder

FEW, MANY = 20, 400  # tasks: of one chunk, and of several


def identity(x: int) -> int:
    return x


def arm(where: str) -> int:
    os.environ["TREADLE_KILL_AT"] = where
    return os.getpid()


def tasks_of(trace: Any) -> list[dict[str, Any]]:
    return [e for e in trace["traceEvents"] if e.get("cat") == "task" and e["ph"] == "X"]


def check_anew(path: Path) -> None:
    """The session can record, and that is whole."""
    with Recorder(path), treadle.Pool(1, "threads") as pool:
        assert list(pool.map(identity, range(FEW))) == list(range(FEW))
    assert len(tasks_of(json.loads(path.read_text()))) == FEW
    assert _core.trace_place() is None


def record(path: str, where: str) -> None:
    """In a child that is killed somewhere in here."""
    arm(where)
    with Recorder(path):
        for number in range(MANY):
            _core.trace_end(_core.trace_begin("child", number))


def begins(where: str, folder: Path) -> bool:
    path = folder / "theirs.json"
    child = multiprocessing.get_context("fork").Process(target=record, args=(str(path), where))
    child.start()
    child.join()
    killed = child.exitcode == -signal.SIGKILL
    assert killed or child.exitcode == 0, child.exitcode
    if path.exists():  # the recording as it was then, or the trace
        text = path.read_text() if path.read_bytes().startswith(b"{") else recorder.read(path)
        assert text is not None
        found = tasks_of(json.loads(text))
        assert [e["args"]["task"] for e in found] == list(range(len(found)))
        assert all("unfinished" not in e["args"] for e in found[:-1])
    check_anew(folder / "ours.json")
    return killed


def works(where: str, folder: Path) -> bool:
    path = folder / "trace.json"
    with treadle.Pool(1, "processes", trace=path) as pool:
        assert list(pool.map(identity, range(FEW))) == list(range(FEW))
        armed = pool.submit(arm, where)
        futures = [pool.submit(identity, n) for n in range(MANY)]
        errors = [error for future in [armed, *futures] if (error := future.exception()) is not None]
        assert all(isinstance(error, WorkerDied) for error in errors) and len(errors) <= 1
        restarts = pool.stats().restarts
    found = tasks_of(json.loads(path.read_text()))
    # Nothing is there twice; of what has returned nothing is lost but the record that was being written.
    seen = [e["args"]["task"] for e in found]
    assert len(set(seen)) == len(seen)
    assert len(found) >= FEW + 1 + MANY - 1 - restarts, len(found)
    assert sum("unfinished" in e["args"] for e in found) <= 1
    check_anew(folder / "again.json")
    return restarts > 0


def runs(where: str, folder: Path) -> bool:
    path = folder / "trace.json"
    environ = {key: value for key, value in os.environ.items() if key != "TREADLE_BOARD"}
    done = subprocess.run(
        [sys.executable, "-c", f"import trace_points; trace_points.record({str(path)!r}, {where!r})"],
        env=environ, timeout=100, check=False,
    )  # fmt: skip
    killed = done.returncode == -signal.SIGKILL
    assert killed or done.returncode == 0
    if path.exists():
        text = path.read_text() if path.read_bytes().startswith(b"{") else recorder.read(path)
        assert text is None or json.loads(text) is not None  # None: it has no head yet
        assert killed or len(tasks_of(json.loads(text or ""))) == MANY
    check_anew(path)  # in its place
    return killed


def main() -> None:
    how, where = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        killed = {"begins": begins, "works": works, "runs": runs}[how](where, Path(folder))
    print("ok", "killed" if killed else "not reached")


if __name__ == "__main__":
    main()
