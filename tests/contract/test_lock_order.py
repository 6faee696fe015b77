"""`treadle run --lock-order` reports locks that are taken in different orders, though nothing has gone wrong yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "treadle", "run"]

START = """\
import threading
def each_in_a_thread(*functions):
    for function in functions:
        thread = threading.Thread(target=function, name=function.__name__)
        thread.start()
        thread.join()
"""
TWO = (
    START
    + """\
accounts = threading.Lock()
journal = threading.RLock()
def pay():
    with accounts:
        with journal, journal:
            pass
def audit():
    with journal:
        accounts.acquire()
        accounts.release()
each_in_a_thread(pay, audit, audit)
"""
)
THREE = (
    START
    + """\
from threading import Lock
a, b, c = Lock(name="a"), Lock(name="b"), Lock(name="c")
def first():
    with a, b: pass
def second():
    with b, c: pass
def third():
    with c, a: pass
each_in_a_thread(first, second, third)
"""
)
SAME_LINE = (
    START
    + """\
locks = [threading.Lock() for _ in range(3)]
def up():
    with locks[0], locks[1]: pass
    with locks[1], locks[2]: pass
def down():
    with locks[2], locks[0]: pass
    with locks[1], locks[0]: pass
each_in_a_thread(up, down)
"""
)
PHILOSOPHERS = (
    START
    + """\
forks = [threading.Lock() for _ in range(5)]
def eats(n):
    with forks[n], forks[(n + 1) % 5]: pass
for n in range(5):
    thread = threading.Thread(target=eats, args=(n,), name=f"philosopher {n}")
    thread.start()
    thread.join()
"""
)
IN_ORDER = PHILOSOPHERS.replace(
    "forks[n], forks[(n + 1) % 5]", "forks[min(n, (n + 1) % 5)], forks[max(n, (n + 1) % 5)]"
)
MANY = (
    START
    + """\
from treadle.diagnose import lock_order
lock_order.MOST_PAIRS = 100
locks = [threading.Lock() for _ in range(500)]
def up():
    for a, b in zip(locks, locks[1:]):
        with a, b: pass
def down():
    with locks[1], locks[0]: pass  # the other way round is forgotten
    assert len(lock_order._pairs) == sum(map(len, lock_order._next.values())) == 100
    with locks[499], locks[490]: pass
each_in_a_thread(up, down)
"""
)
OTHER_OBJECTS = (
    START
    + """\
class Account:
    def __init__(self):
        self.lock = threading.Lock()
class Journal:
    def __init__(self):
        self.lock = threading.Lock()
def pay():
    with Account().lock, Journal().lock: pass
def audit():
    with Journal().lock, Account().lock: pass
each_in_a_thread(pay, audit)
"""
)
FINE = (
    START
    + """\
import queue
a = threading.Lock()
b = threading.Lock()
def one():
    with a, b: pass
def does_not_wait():
    with b:
        assert a.acquire(blocking=False)
        a.release()
def released_by_another():
    b.acquire()
    threading.Thread(target=b.release).start()
    while b.locked(): pass
    with a: pass
def recursive():
    r = threading.RLock()
    with r, a, r, b: pass
def again():
    with a: pass
    with b: pass
    q = queue.Queue()
    q.put(1)
    q.get()
each_in_a_thread(one, does_not_wait, released_by_another, recursive, again, one)
from treadle.diagnose import lock_order
assert lock_order.inversions() == []
"""
)


def run(text: str, path: Path, *options: str, **variables: str) -> str:
    path.write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "TREADLE_BOARD"} | variables
    done = subprocess.run(
        [*RUN, *options, str(path)], capture_output=True, text=True, timeout=60, env=environment, cwd=path.parent
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_both_stacks_once(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    said = run(TWO, path, "--lock-order").splitlines()
    a, b = f"Lock (made at {path}:7)", f"RLock (made at {path}:8)"
    assert said == [
        f"treadle: lock order: {a} is taken while {b} is held, and before it was the other way round.",
        "Threads that do so at the same time wait for each other for ever.",
        f"  now, thread 'audit' holds {b}, taken at",
        f"      {path}:14 in audit",
        f"    and takes {a} at",
        f"      {path}:15 in audit",
        f"  before, thread 'pay' held {a}, taken at",
        f"      {path}:10 in pay",
        f"    and took {b} at",
        f"      {path}:11 in pay",
    ]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        (THREE, 1), (SAME_LINE, 1), (OTHER_OBJECTS, 1), (FINE, 0), (PHILOSOPHERS, 1), (IN_ORDER, 0), (MANY, 1),
    ],
    ids=["three", "same line", "other objects", "fine", "philosophers", "in order", "many"],
)  # fmt: skip
def test_what_is_an_inversion(text: str, times: int, tmp_path: Path) -> None:
    said = run(text, tmp_path / "program.py", TREADLE_LOCK_ORDER="1")
    assert said.count("treadle: lock order: ") == times, said
    if text is THREE:
        assert "Lock 'a'" in said
        assert "before it was one after the other" in said
        assert said.count("before, thread") == 2
    if text is PHILOSOPHERS:
        assert "now, thread 'philosopher 4' holds" in said
        assert said.count("before, thread") == 4


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert run(TWO, tmp_path / "program.py") == ""


CHILD = """\
import multiprocessing, threading
def child():
    a, b = threading.Lock(name="a"), threading.Lock(name="b")
    with a, b: pass
    with b, a: pass
if __name__ == "__main__":
    for method in ("spawn", "fork"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
"""


def test_in_children(tmp_path: Path) -> None:
    assert run(CHILD, tmp_path / "program.py", "--lock-order").count("treadle: lock order: Lock 'a'") == 2
