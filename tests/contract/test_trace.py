"""What a trace says of pools, maps, threads and locks."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path

import pytest
import trace_work as work

import treadle
from treadle._native import _core
from treadle.recording import Recorder, recorder
from treadle.threading import Lock, Thread


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def test_processes(path: Path) -> None:
    with treadle.Pool(2, "processes", trace=path) as pool:
        assert list(pool.map(work.double, range(6))) == [0, 2, 4, 6, 8, 10]
        pids = {worker.pid for worker in pool.stats().workers}
    tasks = work.events(path, cat="task", ph="X")
    assert {e["name"] for e in tasks} == {"double"}
    assert sorted(e["args"]["index"] for e in tasks) == [0, 1, 2, 3, 4, 5]
    assert {e["pid"] for e in tasks} <= pids
    names = work.process_names(path)
    assert {names[e["pid"]] for e in tasks} <= {"worker 1", "worker 2"}
    # An arrow from where each was sent to where it ran, and not backwards.
    begins = {e["id"]: e for e in work.events(path, ph="s")}
    ends = {e["id"]: e for e in work.events(path, ph="f")}
    assert len(begins) == 6 and begins.keys() == ends.keys()
    assert all(begins[id]["pid"] == os.getpid() and begins[id]["ts"] <= ends[id]["ts"] for id in begins)


def test_a_task_that_is_sent_directly_has_its_arrow_too(path: Path) -> None:
    with treadle.Pool(1, "processes", trace=path) as pool:
        for i in range(20):
            assert pool.submit(work.double, i).result() == 2 * i
    assert len(work.events(path, cat="task", ph="X")) == 20
    begins = {e["id"]: e for e in work.events(path, ph="s")}
    ends = {e["id"]: e for e in work.events(path, ph="f")}
    assert len(begins) == 20 and begins.keys() == ends.keys()
    assert all(begins[id]["ts"] <= ends[id]["ts"] for id in begins)


def test_threads(path: Path) -> None:
    with treadle.Pool(2, "threads", trace=path) as pool:
        assert list(pool.map(work.nap, range(5))) == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError):
            pool.submit(work.sad, 1).result()
    naps = work.events(path, cat="task", name="nap")
    assert sorted(e["args"]["index"] for e in naps) == [0, 1, 2, 3, 4]
    assert all(e["dur"] >= 2000 and e["pid"] == os.getpid() for e in naps)
    names = work.thread_names(path)
    assert {names[e["pid"], e["tid"]] for e in naps} <= {"treadle-worker-1", "treadle-worker-2"}
    (sad,) = work.events(path, cat="task", name="sad")
    assert sad["args"]["failed"] is True


def test_a_wait_names_its_lock_its_owner_and_its_place(path: Path) -> None:
    vault = Lock(name="vault")

    def opens() -> None:
        with vault:
            pass

    with Recorder(path):
        with vault:
            thread = Thread(target=opens, name="thief")
            thread.start()
            while "waiters=1" not in repr(vault):
                pass
        thread.join()
    (wait,) = work.events(path, cat="wait", name="wait: lock")
    args = wait["args"]
    assert "'vault'" in args["what"] and args["owner"] == "MainThread"
    assert Path(args["where"].rpartition(":")[0]) == Path(__file__)
    assert work.thread_names(path)[wait["pid"], wait["tid"]] == "thief"
    (life,) = work.events(path, cat="span")
    assert life["name"].endswith("opens")
    assert life["ts"] <= wait["ts"] and wait["ts"] + wait["dur"] <= life["ts"] + life["dur"]


def test_what_the_library_waits_for_is_said_in_the_users_words(path: Path) -> None:
    with treadle.Pool(1, "processes", trace=path) as pool:
        pool.submit(work.nap, 1).result()
    waits = work.events(path, cat="wait", tid=os.getpid())
    assert {e["args"]["what"] for e in waits} <= {"the result of a task", "the pool"}
    assert waits and all(e["args"]["where"].startswith(f"{__file__}:") for e in waits)


def test_map(path: Path) -> None:
    assert list(treadle.map(work.nap, range(4), engine="threads", trace=path)) == [0, 1, 2, 3]
    assert len(work.events(path, cat="task", name="nap")) == 4


def test_a_map_that_is_left_early_leaves_its_trace(path: Path) -> None:
    with treadle.map(work.nap, range(1000), engine="threads", workers=1, trace=path) as results:
        next(results)
    assert work.events(path, cat="task", name="nap")


def test_a_stream_that_is_left_early_leaves_its_trace(path: Path) -> None:
    with treadle.map(work.thrice, range(1000), engine="threads", workers=1, stream=True, trace=path) as values:
        next(values)
    assert not recorder._live
    assert work.events(path, cat="task", name="thrice")


@pytest.mark.parametrize("stream", [False, True])
def test_a_map_that_is_dropped_leaves_its_trace(path: Path, stream: bool) -> None:
    fn = work.thrice if stream else work.nap
    values = treadle.map(fn, range(1000), engine="threads", workers=1, stream=stream, trace=path)
    next(values)
    assert len(recorder._live) == 1
    del values
    gc.collect()
    until = time.monotonic() + 20
    while recorder._live:  # the pool's thread does it
        assert time.monotonic() < until, "it records on"
        time.sleep(0.002)
    assert work.events(path, cat="task", name=fn.__name__)


def test_warm_workers_are_recorded_too(path: Path) -> None:
    assert list(treadle.map(work.double, [1], engine="processes", workers=1)) == [2]
    assert list(treadle.map(work.double, [2, 3], engine="processes", workers=1, trace=path)) == [4, 6]
    assert len(work.events(path, cat="task", ph="X")) == 2
    assert list(treadle.map(work.double, [1], engine="processes", workers=1)) == [2]
    assert len(work.events(path, cat="task", ph="X")) == 2


def test_pools_in_pools(path: Path) -> None:
    with treadle.Pool(1, "processes", trace=path) as pool:
        assert list(pool.map(work.inner_pool, [5])) == [[10, 12]]
    (outer,) = work.events(path, cat="task", name="inner_pool")
    inner = work.events(path, cat="task", name="double")
    assert len(inner) == 2 and outer["pid"] not in {e["pid"] for e in inner} | {os.getpid()}
    assert all(outer["ts"] <= e["ts"] and e["ts"] + e["dur"] <= outer["ts"] + outer["dur"] for e in inner)


def test_traces_within_a_trace(path: Path, tmp_path: Path) -> None:
    """Each has what happened in its own time."""
    other, theirs = tmp_path / "other.json", tmp_path / "theirs.json"
    with treadle.Pool(1, "threads", trace=path) as pool:
        assert list(pool.map(work.nap, [1])) == [1]
        with treadle.Pool(1, "processes", trace=other) as inner:
            assert inner.submit(work.traced_pool, str(theirs)).result() == 6
        assert list(pool.map(work.nap, [2])) == [2]
    assert len(work.events(path, cat="task", name="nap")) == 2
    assert len(work.events(path, cat="task", name="double")) == 2
    assert not work.events(other, name="nap") and len(work.events(other, cat="task", name="double")) == 2
    assert len(work.events(theirs, cat="task", name="double")) == 2
    assert _core.trace_place() is None


def test_the_first_of_two_may_end_first(path: Path, tmp_path: Path) -> None:
    first, second = Recorder(path), Recorder(tmp_path / "second.json")
    first.finish()
    with treadle.Pool(1, "threads") as pool:
        pool.submit(work.double, 1).result()
    second.finish()
    assert not work.events(path, cat="task")
    assert len(work.events(tmp_path / "second.json", cat="task")) == 1


def test_a_task_that_is_longer_than_many_chunks(path: Path) -> None:
    gate, count = Lock(name="gate"), 3000
    with Recorder(path):
        outer = _core.trace_begin("outer", 1)
        assert outer is not None
        for number in range(count):
            span = _core.trace_begin(f"inner {number % 300}", 2 + number)
            assert span is not None
            _core.trace_end(span, number == 7)
        _core.trace_end(outer, True)
        assert not gate.locked()
    (long,) = work.events(path, name="outer")
    assert long["args"]["failed"] is True and "unfinished" not in long["args"]
    inner = [e for e in work.events(path, cat="task") if e["name"].startswith("inner")]
    assert [e["args"]["task"] for e in inner] == list(range(2, 2 + count))
    assert all(e["name"] == f"inner {(e['args']['task'] - 2) % 300}" for e in inner)
    assert [e["args"]["task"] for e in inner if "failed" in e["args"]] == [9]
    assert all(long["ts"] <= e["ts"] <= long["ts"] + long["dur"] for e in inner)


@pytest.mark.parametrize("name", ["</script><b>", 'quo"te\\', "naïve 線", "x" * 1000, "\x1f\x7f"])
def test_any_name(path: Path, name: str) -> None:
    with Recorder(path):
        span = _core.trace_begin(name)
        assert span is not None
        _core.trace_end(span)
    (event,) = work.events(path, cat="span")
    assert event["name"] == name[: len(event["name"])] and len(event["name"]) >= min(len(name), 200)


def test_a_full_recording_says_what_it_lacks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LIMIT", 3 * 4096)  # the head, and two short chunks at most
    with Recorder(path) as record:
        for number in range(500):
            span = _core.trace_begin("a", number)
            if span is not None:
                _core.trace_end(span)
    assert 1 <= len(work.events(path, cat="task")) < 500
    assert record.dropped >= 1 and json.loads(path.read_text())["otherData"]["dropped"] == record.dropped


def test_what_is_no_trace_is_not_overwritten(path: Path) -> None:
    path.write_text("def program(): ...")
    with pytest.raises(ValueError, match="is no trace"):
        treadle.Pool(1, "threads", trace=path)
    assert path.read_text() == "def program(): ..." and _core.trace_place() is None
    for missing in (path.parent / "no" / "folder.json", path.parent):
        with pytest.raises(OSError):
            treadle.Pool(1, "threads", trace=missing)
    path.write_text('{"traceEvents": []}')
    with treadle.Pool(1, "threads", trace=path) as pool:
        pool.submit(work.double, 1).result()
    assert work.events(path, cat="task")


def test_what_is_no_ordinary_file_is_not_opened(path: Path) -> None:
    os.mkfifo(path)  # who opens one waits for the other side
    with pytest.raises(ValueError, match="ordinary file"):
        treadle.Pool(1, "threads", trace=path)
    with pytest.raises(OSError, match="name is needed"):
        recorder.check("")


def test_off_means_off() -> None:
    assert _core.trace_place() is None and _core.trace_begin("x") is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_recorded_and_writes_nothing(path: Path) -> None:
    with Recorder(path):
        pid = os.fork()
        if pid == 0:
            span = _core.trace_begin("child")
            assert span is not None
            _core.trace_end(span)
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert not path.read_bytes().startswith(b"{")
    (event,) = work.events(path, cat="span")
    assert (event["name"], event["pid"]) == ("child", pid)
