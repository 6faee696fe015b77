"""Whole programs with a multiprocessing.Pool: what is in their main module, and how they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ["forkserver", "spawn", "fork"]

# What an initializer binds is what the functions find; what can't be pickled is there all the same.
PROGRAM = """
import os, sys, threading
from treadle import multiprocessing

here = os.getpid()
shared = None
calls = []
{unpicklable}

class Point:
    def __init__(self, x):
        self.x = x

class Odd(Exception):
    pass

def begin(x):
    global shared
    shared = x

def work(i):
    with guard:
        calls.append(i)
        return shared + i, len(calls)

def make(x):
    return Point(x)

def take(point):
    assert type(point) is Point
    return point.x

def odd(x):
    raise Odd(x)

def me():
    process = multiprocessing.current_process()
    return process.name, process._identity

def main(method):
    with multiprocessing.get_context(method).Pool(1, begin, (100,)) as pool:
        print(pool.apply(work, (1,)), pool.map(work, [2, 3]), list(pool.imap(work, [4])))
        print(type(pool.apply(make, (5,))) is Point, pool.map(take, [Point(6), Point(7)]))
        for call in (lambda: pool.apply(odd, (8,)), lambda: pool.map(odd, [8])):
            try:
                call()
            except Odd as error:
                print("Odd", error.args)
        print(pool.apply(lambda: shared), *pool.apply(me))

{guard}
    main(sys.argv[1])
"""
GUARD = 'if __name__ == "__main__":'
LOCK = "guard = threading.Lock()"
EVENT = "import contextlib; guard = contextlib.nullcontext()"


def run(tmp_path: Path, text: str, *args: str, code: int = 0) -> str:
    program = tmp_path / "program.py"
    program.write_text(text)
    done = subprocess.run([sys.executable, str(program), *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert code or not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("guard", [True, False], ids=["guard", "no guard"])
@pytest.mark.parametrize("method", METHODS)
def test_the_main_module(tmp_path, method, guard) -> None:
    lock = LOCK if guard or method == "fork" else EVENT  # without a guard, only a fork has what can't be pickled
    out = run(tmp_path, PROGRAM.format(guard=GUARD if guard else "if True:", unpicklable=lock), method)
    kind = {"forkserver": "ForkServer", "spawn": "Spawn", "fork": "Fork"}[method]
    assert out.splitlines() == [
        "(101, 1) [(102, 2), (103, 3)] [(104, 4)]",
        "True [6, 7]",
        "Odd (8,)",
        "Odd (8,)",
        f"100 {kind}PoolWorker-1 (1,)",
    ]


def test_forgetting_close_and_join_loses_nothing(tmp_path) -> None:
    text = """
from treadle.multiprocessing import Pool
from pathlib import Path
import sys, time

def mark(path):
    time.sleep(0.001)
    Path(path).touch()

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pool = Pool(2)
    for i in range(100):
        pool.apply_async(mark, (folder / f"a{i}",))
    pool.map_async(mark, [folder / f"b{i}" for i in range(300)])
    pool.imap_unordered(mark, (folder / f"c{i}" for i in range(300)))
    Pool(1).apply_async(mark, (folder / "d",))
    print("end")
"""
    (tmp_path / "out").mkdir()
    assert run(tmp_path, text, str(tmp_path / "out")) == "end\n"
    assert len(list((tmp_path / "out").iterdir())) == 701


def test_a_failure_that_nobody_looked_at_is_told(tmp_path) -> None:
    text = """
import logging, sys
from treadle.multiprocessing import Pool

def fail(x):
    raise ValueError("number %d" % x)

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    with Pool(1) as pool:
        pool.apply_async(fail, (1,))
        pool.map_async(fail, [2])
        looked = pool.apply_async(fail, (3,))
        looked.wait()
        try:
            looked.get()
        except ValueError:
            pass
        told = pool.apply_async(fail, (4,), error_callback=lambda error: None)
        del looked, told
"""
    out = run(tmp_path, text)
    assert "ValueError: number 1" in out and "ValueError: number 2" in out
    assert "number 3" not in out and "number 4" not in out


def test_a_traceback_has_the_lines_of_the_main_module(tmp_path) -> None:
    """Also of functions that travel by value, whose code cloudpickle would send without the name of its file."""
    (tmp_path / "program.py").write_text(
        """
import treadle
from treadle import futures, multiprocessing
def fails(x):
    return x / 0  # this line
def inner():
    return lambda x: x / 0  # that line
with treadle.Pool(1, "processes") as pool, futures.ProcessPoolExecutor(1) as executor, multiprocessing.Pool(1) as face:
    errors = [make(fn) for fn in (fails, inner()) for make in (
        lambda fn: pool.submit(fn, 1).exception(),
        lambda fn: executor.submit(fn, 1).exception(),
        lambda fn: face.apply_async(fn, (1,))._future.exception(),
    )]
for error in errors:
    text = str(error.__cause__)
    print("program.py" in text, "this line" in text or "that line" in text)
"""
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True True\n" * 6, done.stderr


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guard", [True, False])
def test_context_variables_of_the_main_module(tmp_path, method, guard) -> None:
    """A function that is found by its name in a main module that was run again sees the variable of that one."""
    main = """
    with multiprocessing.get_context(METHOD).Pool(2) as pool:
        variable.set("first")
        result = pool.apply_async(seen)
        variable.set("second")
        print(result.get(), pool.apply(seen), pool.map(seen, [1, 2]), pool.apply(lambda: variable.get()))
""".replace("METHOD", repr(method))
    unguarded = "\n".join(line[4:] for line in main.splitlines())
    main = 'if __name__ == "__main__":' + main if guard else unguarded
    (tmp_path / "program.py").write_text(
        """
from contextvars import ContextVar
from treadle import multiprocessing
variable = ContextVar("of another name", default="default")
def seen(_=None):
    return variable.get()
"""
        + main
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "first second ['second', 'second'] second\n", done.stderr


def test_at_the_programs_end_tasks_find_executors_that_work(tmp_path) -> None:
    """Those of the standard library refuse new work from some moment on: by then the pools have finished."""
    text = """
import sys, treadle
if sys.argv[1] == "later":
    treadle.Pool(1, engine="threads").submit(abs, 1).result()
import threading
from concurrent.futures import ThreadPoolExecutor

executor = ThreadPoolExecutor(1)
executor.submit(abs, 1).result()  # Python 3.12 starts no thread at the end
ending = threading.Event()

def work(x):
    ending.wait()
    sys.stdout.write(" %d " % executor.submit(pow, x, 2).result())

for x in (2, 3):
    treadle.Pool(1, engine="threads").submit(work, x)
threading._register_atexit(ending.set)
"""
    for when in ("before", "later"):
        assert sorted(run(tmp_path, text, when).split()) == ["4", "9"]
