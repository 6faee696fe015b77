"""`treadle run`: a program is given what plain Python gives it, and `threading` and its like are treadle's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PLAIN = [sys.executable]
TREADLE = [sys.executable, "-m", "treadle", "run"]

TELL = """\
import os, sys
print(sys.argv, sys.path[0], __name__, globals().get("__file__"), __spec__ and __spec__.name, sys.flags.dev_mode)
print(sorted(name for name in os.environ if name != "TREADLE_BOARD"))
print(os.environ.get("PYTHONPATH"), sys.path)
"""
EXCEPTION = """\
def f(x):
    try:
        1 / x
    except ZeroDivisionError as error:
        raise ValueError("no") from error
f(0)
"""
ORDER = """\
import atexit, threading, time
def late():
    time.sleep(0.05)
    print("thread ends")
atexit.register(print, "atexit")
threading.Thread(target=late).start()
print("main ends")
"""
PICKLED = """\
import pickle
class Thing: pass
def f(): pass
print(pickle.loads(pickle.dumps(f)) is f, type(pickle.loads(pickle.dumps(Thing()))) is Thing)
print(f.__module__, Thing.__module__)
"""
IN_LOCK = """\
import os, signal, threading
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
lock = threading.Lock()
lock.acquire()
try:
    lock.acquire(timeout=60)
except KeyboardInterrupt:
    print("got it")
"""
WAITS = """\
import threading
lock = threading.Lock()
lock.acquire()
print("here", flush=True)
lock.acquire(timeout=60)
"""
MANAGERS = """\
import multiprocessing as mp
from multiprocessing.managers import SyncManager
class Mine(SyncManager): pass
if __name__ == "__main__":
    for method in ("forkserver", "spawn", "fork"):
        with Mine(ctx=mp.get_context(method), shutdown_timeout=50) as manager:  # after 1 s it would kill the server
            print(method, manager.dict(a=1), manager.Pool(1).map(abs, [-1]))
"""
PROGRAMS = {
    "managers with a server": (MANAGERS, []),
    "argv": (TELL, ["-m", "--x", "-c", ""]),
    "exit 3": ("raise SystemExit(3)", []),
    "exit with words": ("import sys; sys.exit('so much for that')", []),
    "exit None": ("import sys; sys.exit()", []),
    "exit -1": ("import sys; sys.exit(-1)", []),
    "exit with an object": ("raise SystemExit([1])", []),
    "_exit": ("import os; print('hidden', end=''); os._exit(5)", []),
    "exception": (EXCEPTION, []),
    "group": ("raise ExceptionGroup('two', [ValueError(1), KeyError(2)])", []),
    "syntax": ("def f(:\n", []),
    "interrupt": ("raise KeyboardInterrupt", []),
    "SIGINT": ("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)", []),
    "SIGTERM": ("import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)", []),
    "SIGINT in a lock": (IN_LOCK, []),
    "order": (ORDER, []),
    "pickled": (PICKLED, []),
    "stdin": ("import sys; print(sys.stdin.read(), input.__name__)", []),
}


def outcome(command: list[str], cwd: Path, text: str = "some input", **env: str) -> tuple[int, str, str]:
    environment = {**os.environ, **env}
    environment.pop("TREADLE_BOARD", None)
    done = subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_plain_python(name: str, tmp_path: Path) -> None:
    program, arguments = PROGRAMS[name]
    (tmp_path / "program.py").write_text(program)
    plain, ours = (outcome([*kind, "program.py", *arguments], tmp_path) for kind in (PLAIN, TREADLE))
    if program is MANAGERS:  # plain Python's server may end while a thread of it removes a semaphore, and warns then
        plain = (*plain[:2], "")
    assert ours == plain
    expected = {"exit 3": 3, "exit -1": 255, "_exit": 5, "exception": 1, "SIGINT": -signal.SIGINT, "SIGTERM": -15}
    assert plain[0] == expected.get(name, plain[0])


@pytest.mark.parametrize(
    "how",
    ["-m package", "-m module", "-mmodule", "-c", "-ccode", "-", "zip", "folder", "missing", "-m missing", "-x behind"],
)
def test_every_kind_of_program(how: str, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for file in ("package/__init__.py", "package/__main__.py", "module.py"):
        (tmp_path / file).write_text(TELL)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("__main__.py", TELL)
    command = {
        "-m package": ["-m", "package", "a", "-b"], "-m module": ["-m", "module", "-c"], "-c": ["-c", TELL, "-m", "a"],
        "-mmodule": ["-mmodule", "-mx", "-cy"], "-ccode": ["-c" + TELL, "-mx"],
        "-x behind": ["module.py", "-mx", "-cy"], "-": ["-", "a"], "zip": ["program.zip", "a"],
        "folder": ["package", "a"], "missing": ["nothing.py"],
        "-m missing": ["-m", "nothing"],
    }[how]  # fmt: skip
    plain, ours = (outcome([*kind, *command], tmp_path, text=TELL) for kind in (PLAIN, TREADLE))
    assert ours == plain
    assert plain[0] == 0 or "missing" in how


def test_options_before_what_follows_at_once(tmp_path: Path) -> None:
    command = [*TREADLE, "--on-stuck", "exit", "--lock-order", "-cimport sys; print(sys.argv)", "-mx"]
    assert outcome(command, tmp_path) == (0, "['-c', '-mx']\n", "")


def test_options_and_variables_of_python(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.custom = 'the user has one too'")
    (tmp_path / "program.py").write_text(TELL + "import warnings; print(sys.warnoptions, sys.flags.optimize, custom)")
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONOPTIMIZE": "1"}
    plain = outcome([sys.executable, "-X", "dev", "-W", "error", "program.py"], tmp_path, **variables)
    ours = outcome([sys.executable, "-X", "dev", "-W", "error", *TREADLE[1:], "program.py"], tmp_path, **variables)
    assert ours == plain
    assert "the user has one too" in plain[1]


def test_it_ends_by_the_signal_while_it_waits_for_a_lock(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WAITS)
    command = [*TREADLE, "program.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "here\n"
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "treadle" not in errors


REPLACED = """\
import sys
import logging, asyncio, queue, threading, _thread
import concurrent.futures
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor, wait
import multiprocessing.pool
from multiprocessing import Queue, dummy
from multiprocessing.sharedctypes import Value
from multiprocessing.managers import SyncManager

def home(thing):
    return (thing if isinstance(thing, type) else type(thing)).__module__.partition(".")[0]

for thing in (threading.Lock, threading.RLock, threading.Thread, threading.Timer, threading.Condition, queue.Queue,
              queue.SimpleQueue, _thread.allocate_lock(), _thread.RLock(), ThreadPoolExecutor, ProcessPoolExecutor,
              futures.ThreadPoolExecutor, concurrent.futures.thread.ThreadPoolExecutor, Queue,
              multiprocessing.pool.ThreadPool, multiprocessing.Pool(1), multiprocessing.Event(), SyncManager,
              multiprocessing.Process,
              multiprocessing.get_context("spawn").Process, multiprocessing.get_context("fork").Lock(),
              logging.StreamHandler().lock, futures.Future()._condition,
              dummy.Pool(1)):
    assert home(thing) == "treadle", thing
assert isinstance(threading.main_thread(), threading.Thread)
assert isinstance(threading.Lock(), _thread.LockType)
assert sys.modules["multiprocessing"].pool.Pool is multiprocessing.pool.Pool
assert wait.__module__ == "treadle.futures.waits"
async def main():
    return await asyncio.to_thread(lambda: home(threading.current_thread()))
print("all of them", asyncio.run(main()))
"""


def test_what_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(REPLACED)
    assert outcome([*TREADLE, "program.py"], tmp_path) == (0, "all of them treadle\n", "")


CHILDREN = """\
import subprocess, sys, threading, multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(x):
    return x * x, type(threading.Lock()).__module__, type(multiprocessing.Queue()).__module__

def send(queue, x):
    queue.put(work(x))

if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        print("pool", pool.apply(work, (2,)))
    with ProcessPoolExecutor(1) as pool:
        print("executor", pool.submit(work, 3).result())
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=send, args=(queue, 4))
        process.start()
        print(method, queue.get())
        process.join()
    code = "import sys, threading; print('subprocess', type(threading.Lock()).__module__, 'treadle' in sys.modules)"
    sys.stdout.flush()  # it writes to the same file
    subprocess.run([sys.executable, "-c", code])
"""


def test_children_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CHILDREN)
    code, out, errors = outcome([*TREADLE, "program.py"], tmp_path)
    ours = "'treadle.threading', 'treadle.queues.shared'"
    assert (code, errors) == (0, "")
    assert out.splitlines() == [
        f"pool (4, {ours})", f"executor (9, {ours})", f"fork (16, {ours})", f"spawn (16, {ours})",
        f"forkserver (16, {ours})", "subprocess _thread False",
    ]  # fmt: skip


INSTALL = """\
import threading, queue, asyncio, multiprocessing
from threading import Lock, Thread
from queue import Queue
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Process
import other
kept = Lock()
import treadle
treadle.install()
treadle.install()
assert threading is treadle.threading and queue is treadle.queue and multiprocessing is treadle.multiprocessing
assert other.bound is treadle.threading.Lock and other.multiprocessing.Pool is treadle.multiprocessing.Pool
assert (Lock, Thread, Queue) == (treadle.threading.Lock, treadle.threading.Thread, treadle.queue.Queue)
assert Process is treadle.multiprocessing.Process
assert ThreadPoolExecutor is treadle.futures.ThreadPoolExecutor
assert asyncio.base_events.threading is treadle.threading
assert not isinstance(kept, Lock)
with kept, ThreadPoolExecutor(1) as pool:
    print(pool.submit(pow, 2, 5).result())
"""


def test_install_from_code(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("import multiprocessing.pool\nfrom threading import Lock as bound\n")
    (tmp_path / "program.py").write_text(INSTALL)
    assert outcome([*PLAIN, "program.py"], tmp_path) == (0, "32\n", "")


@pytest.mark.parametrize("arguments", [["-m"], ["-c"], ["-m", "-c", "x"], ["--nonsense", "x.py"]])
def test_usage(arguments: list[str], tmp_path: Path) -> None:
    code, out, errors = outcome([*TREADLE, *arguments], tmp_path)
    assert (code, out) == (2, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith("treadle run: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("""\
import os, sys, threading
lock = threading.Lock()
with lock: pass
there = [fd for fd in range(3) if os.path.exists(f"/proc/self/fd/{fd}")]
open("told", "w").write(f"{[stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)]} {there}")
sys.exit(5)
""")
    told = []
    for kind in (PLAIN, TREADLE):
        assert outcome(["sh", "-c", f'"$@" {closed}', "sh", *kind, "program.py"], tmp_path) == (5, "", "")
        told.append((tmp_path / "told").read_text())
        (tmp_path / "told").unlink()
    assert told[0] == told[1]


def test_without_python_variables(tmp_path: Path) -> None:
    """-I and -E keep the program from what PYTHONPATH says, not from treadle."""
    (tmp_path / "hidden.py").write_text("")
    code = "import os, sys, threading; print(type(threading.Lock()).__module__, os.environ['PYTHONPATH'])"
    code += "\ntry: import hidden\nexcept ImportError: print('hidden')"
    command = [sys.executable, "-I", *TREADLE[1:], "-c", code]
    assert outcome(command, Path("/"), PYTHONPATH=str(tmp_path)) == (0, f"treadle.threading {tmp_path}\nhidden\n", "")
