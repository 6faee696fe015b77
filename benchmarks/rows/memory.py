"""What a worker costs in memory: all that a pool brings along, shared pages divided among those who share them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from ..harness import Contestant, Row, Work

WORKERS = 4

# Each prints the PSS in MB that all processes below it have, when each worker has done something.
FRAME = """
import os, time
def descendants(pid):
    for task in os.listdir(f"/proc/{{pid}}/task"):
        with open(f"/proc/{{pid}}/task/{{task}}/children") as file:
            for child in map(int, file.read().split()):
                yield child
                yield from descendants(child)
def pss(pid):
    with open(f"/proc/{{pid}}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
def done():
    print(sum(map(pss, descendants(os.getpid()))) / 1024, flush=True)
if __name__ == "__main__":
    naps = [0.2] * {workers}
{code}
"""

POOLS = {
    "treadle.Pool, processes": """
import treadle
with treadle.Pool({workers}, "processes") as pool:
    list(pool.map(time.sleep, naps)); done()
""",
    "multiprocessing.Pool (forkserver)": """
import multiprocessing
with multiprocessing.get_context("forkserver").Pool({workers}) as pool:
    pool.map(time.sleep, naps, 1); done()
""",
    "multiprocessing.Pool (fork)": """
import multiprocessing
with multiprocessing.get_context("fork").Pool({workers}) as pool:
    pool.map(time.sleep, naps, 1); done()
""",
    "ProcessPoolExecutor (forkserver)": """
import concurrent.futures, multiprocessing
with concurrent.futures.ProcessPoolExecutor({workers}, multiprocessing.get_context("forkserver")) as pool:
    list(pool.map(time.sleep, naps)); done()
""",
    "joblib": """
import joblib
with joblib.Parallel({workers}) as parallel:
    parallel(joblib.delayed(time.sleep)(nap) for nap in naps); done()
""",
    "mpire (fork)": """
from mpire import WorkerPool
with WorkerPool({workers}) as pool:
    for result in [pool.apply_async(time.sleep, (nap,)) for nap in naps]:
        result.get()
    done()
""",
    "pebble (fork)": """
import pebble
with pebble.ProcessPool(max_workers={workers}) as pool:
    list(pool.map(time.sleep, naps).result()); done()
""",
    "billiard": """
import billiard
pool = billiard.Pool({workers})
pool.map(time.sleep, naps, 1); done()
pool.terminate()
""",
}


def _memory(code: str) -> Callable[[ExitStack], Work]:
    inside = "".join(f"    {text}\n" for text in code.format(workers=WORKERS).splitlines())
    program = FRAME.format(code=inside, workers=WORKERS)

    def open_it(stack: ExitStack) -> Work:
        def work(count: int) -> float:
            found = 0.0
            for _ in range(count):
                done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
                if "ModuleNotFoundError" in done.stderr:
                    raise ImportError(done.stderr.splitlines()[-1])
                done.check_returncode()
                found += float(done.stdout) / WORKERS
            return found

        return work

    return open_it


def rows() -> list[Row]:
    """The row of this group."""
    contestants = [Contestant(name, _memory(code)) for name, code in POOLS.items()]
    return [
        Row(
            "memory of a pool of 4, for each worker (PSS)",
            1,
            contestants,
            unit="MB",
            turn=float("inf"),
            rounds=3,
            quick=False,
        ),
    ]
