"""The program or a worker comes to its end, or to its limits, while workers log, warn and print."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from scripts import program, run

METHODS = ("forkserver", "spawn", "fork")

NOISE = """
import logging, sys, threading, time, warnings, treadle
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
def noisy(n):
    for i in range(10**9):
        logging.getLogger("noise").info("%d %s", i, "x" * (i % 6000))
        warnings.warn(f"warning {{n}} {{i}}")
        print(n, i, "y" * (i % 5000))
def quiet(n):
    return n
if __name__ == "__main__":
    pool = treadle.Pool(3, engine="processes", start_method={method!r})
    futures = [pool.submit(noisy, n) for n in range(3)]
    print("started", flush=True)
    {then}
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_program_is_killed_while_workers_talk(method: str, tmp_path: Path) -> None:
    with program(NOISE.format(method=method, then="futures[0].result()"), tmp_path) as started:
        started.said("started")
        started.said(" 20 ")
        os.kill(started.pid, signal.SIGKILL)
        started.wait(5)
        started.assert_gone(2.0)


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_while_workers_talk(method: str, tmp_path: Path) -> None:
    with program(NOISE.format(method=method, then="futures[0].result()"), tmp_path) as started:
        started.said("started")
        started.said(" 20 ")
        begin = time.monotonic()
        os.kill(started.pid, signal.SIGINT)
        assert started.wait(10) == -signal.SIGINT
        assert time.monotonic() - begin < 3
        started.assert_gone(2.0)
        assert started.err.count("KeyboardInterrupt") == 1


def test_records_of_work_that_is_finished_at_the_end(tmp_path: Path) -> None:
    """Leaving the program finishes the work: also what it has to say."""
    code = """
    import logging, sys, treadle
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    def work(i):
        logging.info("record %d", i)
        print("line", i, end="")
        print()
    pool = treadle.Pool(2, engine="processes")
    for i in range(50): pool.submit(work, i)
    """
    code_, out, err = run(code, tmp_path)
    assert (code_, err) == (0, "")
    assert sorted(out.splitlines()) == sorted([f"record {i}" for i in range(50)] + [f"line {i}" for i in range(50)])


def test_a_fork_while_workers_talk(tmp_path: Path) -> None:
    """The child has no part in it: it logs, prints, and has pools of its own."""
    code = """
    import logging, os, sys, threading, time, treadle
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    def work(i):
        logging.info("r%d", i)
        return i
    with treadle.Pool(2, engine="processes") as pool:
        results = pool.map(work, range(2000))
        next(results)
        pid = os.fork()
        if pid == 0:
            with treadle.Pool(1, engine="processes") as own:
                assert own.submit(work, -1).result(20) == -1
            logging.info("child")
            sys.stdout.flush()
            os._exit(3)
        assert list(results) == list(range(1, 2000))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    """
    code_, out, err = run(code, tmp_path)
    assert code_ == 0, err
    lines = out.splitlines()
    assert lines.count("r-1") == 1 and lines.count("child") == 1
    assert sorted(int(line[1:]) for line in lines if line.startswith("r") and line != "r-1") == list(range(2000))


def test_a_worker_without_descriptors(tmp_path: Path) -> None:
    """A task has used them all up: it can still say so, and end."""
    code = """
    import logging, os, resource, sys, treadle
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    held = []
    def hoard():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True: held.append(os.dup(0))
        except OSError as error:
            logging.info("no more: %d", error.errno)
            print("printed")
            raise
    with treadle.Pool(1, engine="processes") as pool:
        error = pool.submit(hoard).exception(20)
        assert isinstance(error, OSError), error
        assert pool.submit(abs, -1).result(20) == 1
    """
    code_, out, err = run(code, tmp_path)
    assert (code_, err) == (0, "")
    assert sorted(out.splitlines()) == ["no more: 24", "printed"]


def test_a_worker_without_memory(tmp_path: Path) -> None:
    """What can't be said for want of memory is not said; the task ends all the same."""
    code = """
    import logging, resource, sys, treadle
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message).20s")
    def hungry(size):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000, resource.RLIM_INFINITY))
        text = "x" * size
        logging.info("%s", text)
        return len(text)
    with treadle.Pool(1, engine="processes") as pool:
        assert pool.submit(hungry, 25_000_000).result(20) == 25_000_000
        assert isinstance(pool.submit(hungry, 10**9).exception(20), MemoryError)
        assert pool.submit(abs, -1).result(20) == 1
    """
    code_, _out, err = run(code, tmp_path)
    assert code_ == 0, err


def test_a_task_closes_everything(tmp_path: Path) -> None:
    """Also the descriptors of ours: that worker is lost, and nobody else is."""
    code = """
    import logging, os, sys, treadle
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    def close():
        os.closerange(3, 1000)
        logging.warning("in the dark")
        print("printed")
        return 1
    with treadle.Pool(2, engine="processes") as pool:
        future = pool.options(timeout=5).submit(close)
        error = future.exception(20)
        assert error is None or isinstance(error, treadle.TreadleError), error
        assert list(pool.map(abs, range(100))) == list(range(100))
    """
    code_, out, err = run(code, tmp_path)
    assert code_ == 0, err
    assert "printed" in out.splitlines() and "in the dark" in (out + err)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nobody_reads_what_workers_print(stream: str, tmp_path: Path) -> None:
    """The reader of our output is gone: a task that prints gets BrokenPipeError, as it would in the program."""
    code = f"""
    import os, signal, sys, treadle
    fd = {1 if stream == "stdout" else 2}
    kept = os.dup(fd)
    r, w = os.pipe()
    os.dup2(w, fd); os.close(w)
    def talk():
        print("hello", file=sys.{stream})
    with treadle.Pool(1, engine="processes") as pool:
        assert pool.submit(abs, -1).result(20) == 1
        os.close(r)
        error = pool.submit(talk).exception(20)
        assert isinstance(error, BrokenPipeError), error
        assert pool.submit(abs, -1).result(20) == 1
    os.dup2(kept, fd)
    """
    code_, _out, err = run(code, tmp_path)
    assert code_ == 0, err
