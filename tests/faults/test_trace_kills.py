"""A trace is there however the program ends, and what was recorded before a kill is not lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from scripts import program, wait_for

from treadle.recording import raw, recorder

PROGRAM = """
import os, signal, sys, time
import treadle
from treadle.threading import Lock, Thread

def work(x):
    if x == "wait":
        time.sleep(60)
    if x == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def main():
    with treadle.Pool(1, {engine!r}, trace="trace.json") as pool:
        print(list(pool.map(work, [1, 2, 3])), flush=True)
        {then}

if __name__ == "__main__":
    main()
"""


def tasks(trace: Any) -> list[dict[str, Any]]:
    return [e for e in trace["traceEvents"] if e.get("cat") == "task" and e["ph"] == "X"]


@pytest.mark.parametrize("engine", ["processes", "threads"])
@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("pass", 0),
        ("raise ValueError", 1),
        ("sys.exit(5)", 5),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
        ("pool.shutdown(wait=False); return", 0),
    ],
)
def test_it_is_whole_however_the_program_ends(engine: str, then: str, code: int, tmp_path: Path) -> None:
    with program(PROGRAM.format(engine=engine, then=then), tmp_path) as child:
        assert child.wait() == code, child.err
        child.assert_gone()
    found = tasks(json.loads((tmp_path / "trace.json").read_text()))
    assert [e["args"]["index"] for e in found] == [0, 1, 2]
    assert os.listdir(tmp_path).count("trace.json") == 1 and not [n for n in os.listdir(tmp_path) if n.endswith(".tmp")]


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    then = 'print(pool.submit(work, "die").exception())'
    with program(PROGRAM.format(engine="processes", then=then), tmp_path) as child:
        assert child.wait() == 0, child.err
    trace = json.loads((tmp_path / "trace.json").read_text())
    *before, last = tasks(trace)
    assert len(before) == 3 and not any("unfinished" in e["args"] for e in before)
    assert last["args"]["unfinished"] is True
    (gone,) = [e for e in trace["traceEvents"] if e.get("cat") == "end" and e["name"] != "end"]
    assert "killed by SIGKILL" in gone["name"]
    assert last["ts"] + last["dur"] == pytest.approx(gone["ts"], abs=0.002)


def test_after_a_kill_of_the_program_the_recording_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    then = 'pool.submit(work, "wait").result()'
    with program(PROGRAM.format(engine="processes", then=then), tmp_path) as child:
        child.said("[1, 2, 3]")

        def seen() -> Any:
            text = recorder.read(path)
            assert text is not None
            trace = json.loads(text)  # while it is written, too
            return trace if len(tasks(trace)) == 4 else None

        live = wait_for(seen, 20)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.assert_gone()
    assert tasks(live)[-1]["args"]["unfinished"] is True
    assert path.read_bytes().startswith(raw.MAGIC)
    text = recorder.read(path)
    assert text is not None
    *before, last = tasks(json.loads(text))
    assert len(before) == 3 and last["args"]["unfinished"] is True


def test_damaged_recordings(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with program(PROGRAM.format(engine="processes", then="os.kill(os.getpid(), 9)"), tmp_path) as child:
        assert child.wait() == -signal.SIGKILL, child.err
        child.assert_gone()
    whole = path.read_bytes()
    for size in (8, 60, 4096, 4100, 5000, len(whole) - 1):
        path.write_bytes(whole[:size])
        try:
            text = recorder.read(path)
        except raw.NotARecording:
            assert size < 56
        else:
            assert text is not None and json.loads(text)
    for place in range(4096, len(whole), 97):
        path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        text = recorder.read(path)
        assert text is not None and json.loads(text)


UNMODIFIED = """
import concurrent.futures, multiprocessing, os, signal, sys, threading, time

vault = threading.Lock()

def opens():
    with vault:
        time.sleep(0.01)

def child():
    time.sleep(0.01)

def square(x):
    return x * x

if __name__ == "__main__":
    threads = [threading.Thread(target=opens) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process = multiprocessing.Process(target=child, name="kid")
    process.start()
    process.join()
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        assert list(executor.map(square, range(3))) == [0, 1, 4]
    {then}
"""


# Short names: they are in the path of the fork server's socket.
@pytest.mark.parametrize(
    ("then", "code"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT)],
    ids=["exit", "interrupt"],
)
def test_unmodified(then: str, code: int, tmp_path: Path) -> None:
    """A program that knows nothing of treadle."""
    (tmp_path / "shop.py").write_text(UNMODIFIED.format(then=then))
    start = 'import treadle.cli, sys; sys.exit(treadle.cli.main(["run", "--trace", "trace.json", "shop.py"]))'
    with program(start, tmp_path, "-c") as child:
        assert child.wait() == code, child.err
        child.assert_gone()
    trace = json.loads((tmp_path / "trace.json").read_text())
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    assert names[child.pid] == "shop.py" and "kid" in names.values() and "worker 1" in names.values()
    ran = [(names[e["pid"]], e["name"]) for e in tasks(trace)]
    assert ran == [("worker 1", "square")] * 3
    lives = [(names[e["pid"]], e["name"]) for e in trace["traceEvents"] if e.get("cat") == "span"]
    assert lives.count(("shop.py", "opens")) == 2 and lives.count(("kid", "child")) == 1
    waits = [e["args"] for e in trace["traceEvents"] if e.get("cat") == "wait"]
    assert any(args["kind"] == "lock" and "shop.py:4" in args["what"] for args in waits)
