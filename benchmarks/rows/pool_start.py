"""How long until the first result: of a program, of a pool, and of the second map."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import treadle
from treadle.pool import warm

from ..harness import Contestant, Row, Work

WORKERS = 2

# Each prints what it took from the imports' end to the first result, and waits for the end of its pool after that.
OURS = """
import treadle
treadle.Pool
began = now()
with treadle.Pool(2, "processes") as pool:
    pool.submit(abs, -1).result()
    done()
"""
THEIRS = """
import multiprocessing, multiprocessing.pool, multiprocessing.forkserver
began = now()
with multiprocessing.get_context("forkserver").Pool(2) as pool:
    pool.apply_async(abs, (-1,)).get()
    done()
"""
PEERS = {
    "multiprocessing.Pool (fork)": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.apply_async(abs, (-1,)).get()
    done()
""",
    "ProcessPoolExecutor": """
import concurrent.futures
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    pool.submit(abs, -1).result()
    done()
""",
    "joblib": """
import joblib
joblib.Parallel(2)([joblib.delayed(abs)(-1)])
done()
""",
    "mpire (fork)": """
from mpire import WorkerPool
with WorkerPool(2) as pool:
    pool.apply(abs, (-1,))
    done()
""",
    "pebble (fork)": """
import pebble
with pebble.ProcessPool(max_workers=2) as pool:
    pool.schedule(abs, args=(-1,)).result()
    done()
""",
}
FRAME = """
import time
now = time.perf_counter
start = now()
def done():
    import os
    os.write(1, b"%f" % (now() - {since}))
if __name__ == "__main__":
{code}
"""


def _program(code: str, since: str) -> Callable[[ExitStack], Work]:
    """Runs programs; what counts is what they say themselves.

    The standard library is there as byte code, and so is a package that was installed: so must ours be.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    text = FRAME.format(since=since, code="".join(f"    {line}\n" for line in code.splitlines()))

    def open(stack: ExitStack) -> Work:
        def work(count: int) -> float:
            total = 0.0
            for _ in range(count):
                command = [sys.executable, "-c", text]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                total += float(done.stdout)
            return total

        return work

    return open


def _maps(open_pool: Callable[[range], list[int]]) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        stack.callback(warm.close)

        def work(count: int) -> None:
            for _ in range(count):
                assert open_pool(range(10)) == list(range(10))

        return work

    return open


def _treadle_map(items: range) -> list[int]:
    return list(treadle.map(abs, items, engine="processes", workers=WORKERS))


def _treadle_pool(items: range) -> list[int]:
    with treadle.Pool(WORKERS, "processes") as pool:
        return list(pool.map(abs, items))


def _stdlib_pool(items: range) -> list[int]:
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        return pool.map(abs, items)


def rows() -> list[Row]:
    """The rows of this group."""
    return [
        Row(
            "processes: a program's first result, from the end of its imports",
            5,
            [
                Contestant("treadle.Pool", _program(OURS, "began")),
                Contestant("multiprocessing.Pool (forkserver)", _program(THEIRS, "began")),
            ],
        ),
        Row(
            "processes: a program's first result, imports included",
            5,
            [
                Contestant("treadle.Pool", _program(OURS, "start")),
                Contestant("multiprocessing.Pool (forkserver)", _program(THEIRS, "start")),
                *(Contestant(name, _program(code, "start")) for name, code in PEERS.items()),
            ],
            {
                name: 0.0 for name in PEERS if "fork" in name
            },  # a fork has all imports already; and the locks of a threaded program
            turn=3,
        ),
        Row(
            "processes: a map of ten items, again and again",
            50,
            [
                Contestant("treadle.map", _maps(_treadle_map)),
                Contestant("treadle.Pool, a new one each time", _maps(_treadle_pool), 0.4),
                Contestant("multiprocessing.Pool (forkserver)", _maps(_stdlib_pool), 0.4),
            ],
        ),
    ]
