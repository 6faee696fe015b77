"""Whole programs: where their functions live, how they end, and who ends them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from scripts import alive, program, run, wait_for

METHODS = ("forkserver", "spawn", "fork")

# No `if __name__` guard anywhere: that is the point.
MAIN = """
import collections, dataclasses, enum, os, sys, time
import treadle

FACTOR = 3

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    def double(self): return Point(self.x * 2)

class Trouble(Exception):
    def __init__(self, one, two):
        super().__init__(f"{{one}} {{two}}")
        self.one = one

Pair = collections.namedtuple("Pair", "a b")

def triple(x): return x * FACTOR
def colored(x): return Color.RED
def troubled(x): raise Trouble(x, "two")
def recursive(n): return 1 if n <= 1 else n * recursive(n - 1)
def generator(n):
    yield from range(n)
def make_adder(n):
    def add(x): return x + n
    return add
class Counter:
    def __init__(self, n): self.n = n
    def __call__(self, x): return self.n + x
    @classmethod
    def build(cls, x): return cls(x)
    @staticmethod
    def static(x): return -x

print("start", os.getpid(), flush=True)
with treadle.Pool(2, engine="processes", start_method={method!r}) as pool:
    run = lambda f, *a: pool.submit(f, *a).result(30)
    assert run(triple, 4) == 12
    FACTOR = 5
    assert run(triple, 4) == 20, "globals as they are at the submit"
    assert run(lambda x: x + 1, 1) == 2
    assert run(make_adder(5), 6) == 11
    assert run(recursive, 10) == 3628800
    assert run(sum, list(generator(5))) == 10
    color = run(colored, 1)
    assert color is Color.RED, "the same class as here"
    point = run(Point(3).double)
    assert isinstance(point, Point) and point == Point(6)
    assert run(Pair, 1, 2) == Pair(1, 2)
    assert run(Counter(2), 3) == 5 and run(Counter.static, 3) == -3
    assert isinstance(run(Counter.build, 7), Counter)
    try:
        run(troubled, 9)
    except Trouble as error:
        assert error.one == 9
    else:
        raise AssertionError
    assert list(pool.map(lambda p: p.x, [Point(i) for i in range(50)])) == list(range(50))
    assert run(lambda: __import__("sys").argv) == sys.argv
    assert os.getpid() not in {{run(os.getpid) for _ in range(4)}}
assert list(treadle.map(triple, range(100), engine="processes", start_method={method!r})) == [5 * i for i in range(100)]
assert list(treadle.map(make_adder(1), range(100), workers=2)) == list(range(1, 101))
print("end", flush=True)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
def test_what_lives_in_main(how: str, method: str, tmp_path: Path) -> None:
    code, out, err = run(MAIN.format(method=method), tmp_path, how)
    assert (code, err) == (0, "")
    assert out.count("start") == 1, "no worker has run the program again"
    assert out.splitlines()[-1] == "end"


@pytest.mark.parametrize("method", METHODS)
def test_warnings_as_errors(method: str, tmp_path: Path) -> None:
    code = f"""
    import treadle
    assert list(treadle.map(abs, range(20), engine="processes", workers=3, start_method={method!r})) == list(range(20))
    """
    assert run(code, tmp_path, python=("-W", "error")) == (0, "", "")


def test_isolated_and_safe_path(tmp_path: Path) -> None:
    code = """
    import treadle
    assert list(treadle.map(lambda x: x, range(9), engine="processes", workers=2)) == list(range(9))
    """
    assert run(code, tmp_path, python=("-I",)) == (0, "", "")
    assert run(code, tmp_path, python=("-P", "-B", "-O")) == (0, "", "")


# -- the end of the program


@pytest.mark.parametrize("engine", ["threads", "processes", "auto"])
def test_the_end_of_the_program_finishes_the_work(engine: str, tmp_path: Path) -> None:
    code = f"""
    import time, treadle
    from pathlib import Path
    def work(i):
        time.sleep(0.01)
        Path(f"done-{{i}}").touch()
    pool = treadle.Pool(2, engine={engine!r})
    for i in range(40): pool.submit(work, i)
    """
    assert run(code, tmp_path) == (0, "", "")
    assert len(list(tmp_path.glob("done-*"))) == 40


def test_an_unread_map_does_not_hold_up_the_end(tmp_path: Path) -> None:
    code = """
    import itertools, time, treadle
    results = treadle.map(lambda i: time.sleep(i * 30), itertools.count(), engine="processes", workers=2)
    next(results)
    """
    begin = time.monotonic()
    assert run(code, tmp_path) == (0, "", "")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ValueError(3)", "os._exit(3)", "os.kill(os.getpid(), 15)"])
def test_ends(end: str, tmp_path: Path) -> None:
    code = f"""
    import os, sys, time, treadle
    results = treadle.map(lambda x: time.sleep(x * 30), range(3), engine="processes", workers=2)
    assert next(results) is None
    {end}
    """
    begin = time.monotonic()
    code_, _, err = run(code, tmp_path)
    assert code_ == {"s": 3, "r": 1, "o": 3}[end[0]] or (code_ == -15 and "15" in end)
    assert err.count("Traceback") == ("ValueError" in end)
    assert time.monotonic() - begin < 5


def test_a_thread_that_outlives_the_main_one(tmp_path: Path) -> None:
    """The interpreter is shutting down: what was submitted is finished, new work is refused, nothing hangs."""
    code = """
    import threading, time, treadle
    pool = treadle.Pool(2, engine="processes")
    def use():
        futures = [pool.submit(time.sleep, 0.1) for i in range(6)]
        submitted.set()
        threading.main_thread().join()
        print([f.result() for f in futures], flush=True)
        try:
            pool.submit(abs, -1)
        except treadle.PoolClosed:
            print("refused", flush=True)
    submitted = threading.Event()
    threading.Thread(target=use).start()
    submitted.wait()
    """
    assert run(code, tmp_path) == (0, "[None, None, None, None, None, None]\nrefused\n", "")


def test_output_of_workers_arrives(tmp_path: Path) -> None:
    code = """
    import sys, treadle
    with treadle.Pool(1, engine="processes") as pool:
        pool.submit(print, "to stdout").result()
        pool.submit(print, "to stderr", file=None).result()
        pool.submit(lambda: print("also", file=sys.stderr)).result()
    """
    code_, out, err = run(code, tmp_path)
    assert code_ == 0 and out.split("\n")[:2] == ["to stdout", "to stderr"] and err == "also\n"


def test_closed_standard_streams(tmp_path: Path) -> None:
    code = """
    import os, treadle
    from pathlib import Path
    for fd in (0, 1, 2): os.close(fd)
    assert list(treadle.map(abs, range(20), engine="processes", workers=2)) == list(range(20))
    Path("fine").touch()
    """
    code_, _, _ = run(code, tmp_path)
    assert (tmp_path / "fine").exists() and code_ == 0


def test_children_are_nobodys_to_wait_for(tmp_path: Path) -> None:
    """SIGCHLD is ignored, or the program collects every child there is."""
    code = """
    import os, signal, threading, time, treadle
    signal.signal(signal.SIGCHLD, {handler})
    with treadle.Pool(2, engine="processes", start_method={method!r}) as pool:
        dead, alive = pool.submit(os._exit, 3), pool.submit(time.sleep, 0.3)
        error = dead.exception(10)
        assert isinstance(error, treadle.WorkerDied), error
        assert alive.result(10) is None
        assert list(pool.map(abs, range(100))) == list(range(100))
    """
    reap = "lambda *_: os.waitpid(-1, os.WNOHANG)"
    for method in METHODS:
        for handler in ("signal.SIG_IGN", reap) if method != "fork" else ("signal.SIG_IGN",):
            code_, _, err = run(code.format(handler=handler, method=method), tmp_path)
            assert (code_, err) == (0, ""), (method, handler)


# -- kill -9 of the program

BUSY = """
import os, subprocess, sys, time, treadle
def work(x):
    {task}
print(os.getpid(), flush=True)
{before}
pool = treadle.Pool(3, engine="processes", start_method={method!r})
futures = [pool.submit(work, i) for i in range(100)]
time.sleep(100)
"""
TASKS = {
    "sleeping": "print('running', flush=True); time.sleep(1000)",
    "in C": "print('running', flush=True); sum(range(10**15))",
    "with programs": "child = subprocess.Popen(['sleep', '1000']); print('running', flush=True); child.wait()",
    "in a nested pool": "list(treadle.map(nested, range(10), engine='processes', workers=1))",
}


KILLS = [
    # Programs that tasks have started outlive a killed program with "fork": there is no nursery that could end them.
    *[(task, m, signal.SIGKILL) for task in TASKS for m in METHODS if (task, m) != ("with programs", "fork")],
    ("sleeping", "forkserver", signal.SIGTERM),
    ("sleeping", "forkserver", signal.SIGHUP),
]


@pytest.mark.parametrize(("task", "method", "number"), KILLS)
def test_killed_program_leaves_nothing(task: str, method: str, number: signal.Signals, tmp_path: Path) -> None:
    before = "def nested(x):\n    print('running', flush=True); time.sleep(1000)"
    with program(BUSY.format(task=TASKS[task], method=method, before=before), tmp_path) as started:
        wait_for(lambda: started.out.count("running") >= 3, 20, "tasks run")
        assert len(started.others()) >= 3
        os.kill(started.pid, number)
        assert started.wait(5) == -number
        started.assert_gone(2.0)
        assert started.err == ""


@pytest.mark.parametrize("method", METHODS)
def test_killed_program_whose_own_child_lives_on(method: str, tmp_path: Path) -> None:
    """A forked child holds copies of the program's descriptors: their end of file never comes."""
    before = """
import warnings; warnings.simplefilter("ignore")
treadle.Pool(1, engine="processes", start_method={method!r}).submit(abs, 1).result()
if os.fork() == 0:
    time.sleep(1000)
"""
    code = BUSY.format(task=TASKS["sleeping"], method=method, before=before.format(method=method))
    with program(code, tmp_path) as started:
        wait_for(lambda: started.out.count("running") >= 3, 20, "tasks run")
        child = [pid for pid, _ in started.others() if _parent(pid) == started.pid and _is_fork(pid, started.pid)]
        os.kill(started.pid, signal.SIGKILL)
        started.wait(5)
        spared = [pid for pid in child if alive(pid) and _command(pid) == _command_of_program(started)]
        assert len(spared) == 1
        started.assert_gone(2.0, spare=tuple(spared))


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _command_of_program(started: object) -> bytes:
    return b"\0".join(str(a).encode() for a in started.process.args) + b"\0"  # type: ignore[attr-defined]


def _is_fork(pid: int, parent: int) -> bool:
    return _command(pid) == _command(parent) and _name(pid) != "treadle-worker"


def test_killed_while_it_starts(tmp_path: Path) -> None:
    """At any moment between the first line and the first result."""
    code = """
    import treadle
    print("go", flush=True)
    list(treadle.map(abs, range(10**9), engine="processes", workers=3))
    """
    for i in range(12):
        with program(code, tmp_path) as started:
            started.said("go")
            until = time.monotonic() + i * 0.015
            while time.monotonic() < until:
                pass
            started.process.kill()
            started.wait(5)
            started.assert_gone(2.0)


def test_killed_while_workers_die_and_start(tmp_path: Path) -> None:
    code = """
    import os, treadle
    print("go", flush=True)
    for _ in treadle.map(os._exit, range(10**9), engine="processes", workers=3, on_error="skip"): pass
    """
    for i in range(8):
        with program(code, tmp_path) as started:
            started.said("go")
            until = time.monotonic() + 0.1 + i * 0.02
            while time.monotonic() < until:
                pass
            started.process.kill()
            started.wait(5)
            started.assert_gone(2.0)


# -- os.fork


FORK = """
import os, threading, time, warnings
import treadle
warnings.simplefilter("ignore")
with treadle.Pool(2, engine={engine!r}) as pool:
    gate = "gate"
    def wait(x):
        while not os.path.exists(gate): time.sleep(0.005)
        return x
    futures = [pool.submit(wait, i) for i in range(6)]
    results = pool.map(wait, range(6))
    threading.Thread(target=lambda: next(results), daemon=True).start()
    while sum(w.running is not None for w in pool.stats().workers) < 2: time.sleep(0.005)
    pid = os.fork()
    if pid == 0:
        code = 0
        for what in (lambda: pool.submit(abs, -1), lambda: futures[-1].result(5), lambda: futures[0].exception(5),
                     lambda: list(pool.map(abs, [1]))):
            try:
                what()
            except treadle.PoolClosed as error:
                if "belongs to process" not in str(error): code = 2
            except BaseException as error:
                print(repr(error), flush=True)
                code = 3
            else:
                code = 4
        with treadle.Pool(2, engine={engine!r}) as own:
            if list(own.map(abs, [-1, -2])) != [1, 2]: code = 5
        os._exit(code) if {hard} else exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    open(gate, "w").close()
    assert [f.result(10) for f in futures] == list(range(6))
    assert list(pool.map(abs, range(100))) == list(range(100))
print("fine")
"""


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("engine", ["threads", "processes", "auto"])
def test_fork_while_a_pool_is_alive(engine: str, hard: bool, tmp_path: Path) -> None:
    code, out, err = run(FORK.format(engine=engine, hard=hard), tmp_path)
    assert (code, out) == (0, "fine\n"), out + err
    assert err == ""
