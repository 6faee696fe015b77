"""What workers say reaches the program: records, warnings, errors, lines."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_work as work

import treadle
from treadle import Pool
from treadle.pool.inside import unfinished

METHODS = ("forkserver", "spawn", "fork")
HERE = Path(__file__).parent


class Collect(logging.Handler):
    """Keeps the records, and where they were handled."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.pids: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.pids.add(os.getpid())

    def messages(self) -> list[str]:
        return [r.getMessage() for r in self.records]


@pytest.fixture
def records() -> Iterator[Collect]:
    logger, quiet = logging.getLogger("treadle_tests"), logging.getLogger("treadle_tests.quiet")
    handler = Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    quiet.setLevel(logging.CRITICAL)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    quiet.setLevel(logging.NOTSET)


@pytest.fixture(params=METHODS)
def pool(request: pytest.FixtureRequest, records: Collect) -> Iterator[Pool]:
    with Pool(2, engine="processes", start_method=request.param) as pool:
        yield pool


# -- log records


def test_records(pool: Pool, records: Collect) -> None:
    """They are here when the result is, in order, once, with all they had."""
    assert pool.submit(work.log, 50).result(20) == 50
    assert records.messages() == [f"number {i} of many" for i in range(50)]
    assert records.pids == {os.getpid()}
    first = records.records[0]
    assert first.args == (0, "many") and first.i == 0 and "Unpicklable" in first.odd  # type: ignore[attr-defined]
    assert first.process != os.getpid() and first.processName == f"treadle-worker-{first.process}"
    assert first.filename == "report_work.py" and first.funcName == "log"


def test_odd_records(pool: Pool, records: Collect) -> None:
    pool.submit(work.log_odd).result(20)
    assert records.messages() == ["with an object", "an object", "with a lot: " + "x" * 300_000]


def test_records_with_an_exception(pool: Pool, records: Collect) -> None:
    pool.submit(work.log_error).result(20)
    (record,) = records.records
    text = logging.Formatter().format(record)
    assert "it went wrong" in text and "in log_error" in text and "KeyError: 'inner'" in text


def test_levels_are_mirrored(pool: Pool, records: Collect) -> None:
    assert pool.submit(work.log_levels).result(20) == [False, False, True]
    assert records.records == []


def test_many_threads_of_a_task(pool: Pool, records: Collect) -> None:
    """In the order of each thread, whatever their length."""
    pool.submit(work.log_from_threads, 4, 200).result(30)
    seen: dict[str, list[int]] = {}
    for message in records.messages():
        name, number, filling = message.split(":")
        assert filling == "y" * (int(number) * 97 % 9000)
        seen.setdefault(name, []).append(int(number))
    assert seen == {str(n): list(range(200)) for n in range(4)}


def test_a_forked_child_of_a_task(pool: Pool, records: Collect) -> None:
    pool.submit(work.log_in_fork).result(20)
    assert records.messages() == ["from a child"]


def test_records_of_a_worker_that_dies(pool: Pool, records: Collect) -> None:
    error = pool.submit(work.log_and_die, 300).exception(20)
    assert isinstance(error, treadle.WorkerDied)
    assert records.messages() == [f"before the end {i}" for i in range(300)]


def test_a_handler_that_raises(records: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    class Bad(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("this handler is broken")

    handler = Bad()
    logging.getLogger("treadle_tests").addHandler(handler)
    try:
        with Pool(1, engine="processes") as pool:
            assert pool.submit(work.log, 3).result(20) == 3
            assert pool.submit(abs, -1).result(20) == 1
    finally:
        logging.getLogger("treadle_tests").removeHandler(handler)
    assert len(records.records) == 3
    assert "this handler is broken" in capsys.readouterr().err


def test_a_handler_that_uses_the_pool(records: Collect) -> None:
    """It runs in the pool's own thread: it may submit, and must not wait."""
    futures: list[treadle.Future] = []

    class Submits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            futures.append(pool.submit(abs, -len(futures)))

    handler = Submits()
    logging.getLogger("treadle_tests").addHandler(handler)
    try:
        with Pool(1, engine="processes") as pool:
            pool.submit(work.log, 20).result(20)
            assert [f.result(20) for f in futures] == list(range(20))
    finally:
        logging.getLogger("treadle_tests").removeHandler(handler)


def test_nested_pools(records: Collect) -> None:
    with Pool(1, engine="processes") as pool:
        assert pool.submit(nested).result(30) == 2
    assert records.messages() == ["number 0 of many", "number 1 of many"]


def nested() -> int:
    with Pool(1, engine="processes") as pool:
        return int(pool.submit(work.log, 2).result(20))


# -- warnings


def test_warnings(pool: Pool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with Pool(2, engine="processes") as own:
            text = f"careful {os.urandom(4).hex()}"
            pids = set(own.map(work.warn, [text] * 40))
    assert pids
    assert [str(w.message) for w in caught if w.category is work.OddWarning] == [text], "once a program, not a worker"
    (found,) = [w for w in caught if w.category is work.OddWarning]
    assert found.filename.endswith("report_work.py")


def test_the_filters_are_mirrored() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error", work.OddWarning)
        with Pool(1, engine="processes") as pool:
            assert isinstance(pool.submit(work.warn).exception(20), work.OddWarning)
        warnings.simplefilter("ignore", work.OddWarning)
        with Pool(1, engine="processes") as pool:
            assert pool.submit(work.warn).result(20)
            assert pool.submit(work.warn_caught).result(20) == 1
    assert [w for w in caught if w.category is work.OddWarning] == []


def test_a_filter_holds_for_a_module_that_is_loaded_later_and_loads_none() -> None:
    from wsgiref.validate import WSGIWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", WSGIWarning)
        with Pool(1, engine="processes") as pool:
            assert pool.submit(work.warn_of_wsgi).result(20) == (False, "strange")


# -- errors that nobody catches


def test_thread_errors(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    pool.submit(work.thread_error).result(20)
    (args,) = seen
    assert args.exc_type is LookupError and str(args.exc_value) == "in a thread of a task"
    assert "in body" in str(args.exc_value.__cause__)
    assert args.thread.name.startswith("helper of worker ")


def test_unraisable(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    pool.submit(work.unraisable).result(20)
    (args,) = seen
    assert args.exc_type is LookupError and "in a finalizer" in str(args.exc_value)
    assert "__del__" in (args.object or args.err_msg)  # from 3.14 on the message says in what


def program(code: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(code))
    env = {**os.environ, "PYTHONPATH": str(HERE), **environ}
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False, env=env)


def test_the_default_hooks(tmp_path: Path) -> None:
    done = program(
        """
        import report_work as work, treadle
        with treadle.Pool(1, engine="processes") as pool:
            pool.submit(work.thread_error).result(20)
            pool.submit(work.unraisable).result(20)
        """,
        tmp_path,
    )
    assert done.returncode == 0
    assert "Exception in thread helper of worker" in done.stderr and "in a thread of a task" in done.stderr
    assert "Exception ignored " in done.stderr and "__del__" in done.stderr and "in a finalizer" in done.stderr


# -- lines


@pytest.mark.parametrize("where", ["pipe", "file"])
def test_lines_arrive_whole(where: str, tmp_path: Path) -> None:
    """Four workers, pieces of lines, flushed ones and long ones, both streams into the same."""
    path = tmp_path / "program.py"
    path.write_text(
        "import report_work as work, treadle\n"
        "with treadle.Pool(4, engine='processes') as pool:\n"
        "    for f in [pool.submit(work.chatter, w, 60) for w in range(8)]: f.result(30)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, str(path)]
    if where == "pipe":
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, timeout=60, check=True, text=True
        )
        out = done.stdout
    else:
        with open(tmp_path / "out", "w") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=env, timeout=60, check=True)
        out = (tmp_path / "out").read_text()
    shape = re.compile(r"<\d:\d+ z*>|<\d:\d+ >|z*>")
    wrong = [line[:80] for line in out.splitlines() if not shape.fullmatch(line)]
    assert wrong == []
    assert len(out.splitlines()) == 8 * (60 + 30)
    for worker in range(8):  # in the order in which each task printed them
        numbers = [int(n) for n in re.findall(rf"<{worker}:(\d+) ", out)]
        assert numbers == list(range(60))


def test_parts_are_written_at_the_end_of_the_task(tmp_path: Path) -> None:
    done = program(
        """
        import report_work as work, treadle
        with treadle.Pool(2, engine="processes") as pool:
            for f in [pool.submit(work.dot) for _ in range(20)]: f.result(20)
            print()
            assert pool.submit(work.say_bytes).result(20) == ("redirected\\n", 1, "utf-8", False, 1, True)
        """,
        tmp_path,
        PYTHONIOENCODING="utf-8",
    )
    assert done.stderr == ""
    assert done.stdout.replace("\n", "") == "." * 20 + "bytes10%20%"  # carriage returns are read as line ends


def test_a_killed_worker_spoils_no_line(tmp_path: Path) -> None:
    done = program(
        """
        import os, signal, sys, report_work as work, treadle
        path = sys.argv[0] + ".started"
        with treadle.Pool(2, engine="processes") as pool:
            future = pool.submit(work.parts_and_die, path)
            while not os.path.exists(path): pass
            os.kill(next(w.pid for w in pool.stats().workers if w.running), signal.SIGKILL)
            assert isinstance(future.exception(20), treadle.WorkerDied)
            pool.submit(print, "after").result(20)
        """,
        tmp_path,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "a whole line" and "after" in done.stdout.splitlines()


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize("how", ["killed", "leaves", "hangs"])
def test_what_a_killed_worker_has_begun_to_print_comes_out(how: str, size: int, tmp_path: Path) -> None:
    done = program(
        f"""
        import report_work as work, treadle
        with treadle.Pool(1, engine="processes") as pool:
            bounded = pool.options(timeout=None if {how!r} != "hangs" else 2)
            error = bounded.submit(work.begin_lines, {how!r}, {size}).exception(30)
            assert isinstance(error, (treadle.WorkerDied, treadle.TaskTimeout)), error
            pool.submit(print, "after").result(20)
        """,
        tmp_path,
    )
    assert done.stdout.splitlines() == ["whole", "o" * size, "t" * 10, "after"]
    assert done.stderr == "e" * 10 + "\n"


def test_what_was_printed_is_not_repeated_when_its_worker_is_killed(tmp_path: Path) -> None:
    done = program(
        """
        import os, report_work as work, treadle
        with treadle.Pool(1, engine="processes") as pool:
            for _ in range(3): pool.submit(work.dot).result(20)
            pool.submit(print, "line").result(20)
            pool.submit(os._exit, 3).exception(20)
        """,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("...line\n", "")


def test_nobody_reads_what_a_killed_worker_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    """The program's output is a pipe that is full: it is told in the log, and the pool goes on."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, bytes(1 << 16))
    os.set_blocking(write, True)
    try:
        unfinished.tell(42, [(write, b"the beginning")])
    finally:
        os.close(read)
        os.close(write)
    assert "worker 42 has left" in caplog.text and "the beginning" in caplog.text


# -- seeds and native threads


@pytest.mark.parametrize("method", METHODS)
def test_no_two_workers_draw_the_same(method: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    done = program(
        f"""
        import numpy, random, report_work as work, treadle
        random.seed(1); numpy.random.seed(1)
        how = dict(start_method={method!r}, initializer=__import__, initargs=("numpy",))
        with treadle.Pool(2, engine="processes", **how) as pool:
            drawn = list(pool.map(work.draw, range(20)))
        assert len(set(r[0] for _, r, _ in drawn)) == 20, drawn
        assert len(set(r for _, _, r in drawn)) == 20, drawn
        print(len(set(pid for pid, _, _ in drawn)))
        """,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_native_threads(method: str, tmp_path: Path) -> None:
    code = f"""
    import os, report_work as work, treadle
    from treadle.pool.inside import native
    for name in native.VARIABLES: os.environ.pop(name, None)
    os.environ["MKL_NUM_THREADS"] = "3"
    cpus = treadle.available_cpus()
    with treadle.Pool(2, engine="processes", start_method={method!r}) as pool:
        seen = pool.submit(work.native_variables).result(20)
    assert seen.pop("MKL_NUM_THREADS") == "3"
    assert set(seen.values()) == {{str(max(1, cpus // 2))}}, seen
    with treadle.Pool(1, engine="processes", start_method={method!r}) as pool:
        assert set(pool.submit(work.native_variables).result(20).values()) == {{None, "3"}}
    os.environ["OMP_NUM_THREADS"] = "5"
    with treadle.Pool(2, engine="processes", start_method={method!r}) as pool:
        seen = pool.submit(work.native_variables).result(20)
    assert set(seen.values()) == {{None, "3", "5"}}
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    """
    done = program(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
