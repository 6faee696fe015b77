"""Jobs as people have them; an operation is a file, a request, a row.  Each opens its pool inside, as a script does."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.shared_memory
import os
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import treadle
from treadle.pool import warm

from ..harness import Contestant, Row, Work
from ..jobs import BLOCK, SIDE, TRIALS, attach, bind, closure, digest, fetch, named, of_global, parse, row_norms
from ..peers import OF_PROCESSES, OF_THREADS, Map, plain_loop
from ..slow_server import serve

WORKERS = 2
CLIENTS = 32
DELAY = 0.010  # seconds that the server takes for each request
INF = math.inf


def sources() -> list[str]:
    """The standard library, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    apart = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
    return sorted(str(path) for path in root.rglob("*.py") if not apart & set(path.parts))


def over(mapped: Map, fn: Callable[[Any], Any], items: Sequence[Any], workers: int = WORKERS) -> Work:
    """A job of the first so many items; all contestants must find the same."""

    def work(count: int) -> None:
        found = sum(1 for _ in mapped(fn, items[:count], workers))
        assert found == min(count, len(items)), found

    return work


def _jobs(maps: dict[str, Map], fn: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Contestant]:
    def one(mapped: Map) -> Callable[[ExitStack], Work]:
        def open_it(stack: ExitStack) -> Work:
            stack.callback(warm.close)
            return over(mapped, fn, items, workers)

        return open_it

    return [Contestant(name, one(mapped)) for name, mapped in maps.items()]


def parsing() -> Row:
    """Computes, and gives little back."""
    files = sources()
    loop = Contestant("a plain loop", lambda _: over(plain_loop, parse, files), 0.25, limit=True)
    contestants = [*_jobs(OF_PROCESSES, parse, files, WORKERS), loop]
    return Row("parse the standard library's sources", len(files), contestants, turn=INF, rounds=3, quick=False)


def hashing() -> Row:
    """Half reading, half computing without the interpreter lock: threads do as well as processes."""
    names = ("treadle.map", "treadle.Pool, processes", "multiprocessing.Pool.map", "ProcessPoolExecutor.map", "joblib",
             "mpire map", "pebble map")  # fmt: skip
    maps = {name: OF_PROCESSES[name] for name in names}
    maps |= {name: OF_THREADS[name] for name in ("treadle.Pool, threads", "ThreadPoolExecutor.map")}
    count = 1000

    def one(mapped: Map) -> Callable[[ExitStack], Work]:
        def open_it(stack: ExitStack) -> Work:
            stack.callback(warm.close)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="treadle-bench-")))
            files = [folder / f"{number}.bin" for number in range(count)]
            for path in files:
                path.write_bytes(os.urandom(1 << 17))
            return over(mapped, digest, [str(path) for path in files])

        return open_it

    contestants = [Contestant(name, one(mapped)) for name, mapped in maps.items()]
    return Row("hash a directory: 1,000 files of 128 KB", count, contestants, turn=INF, rounds=5, quick=False)


def requests() -> Row:
    """Waits: 2,000 requests, 32 at a time, each answered after 10 ms."""

    def one(mapped: Map) -> Callable[[ExitStack], Work]:
        def open_it(stack: ExitStack) -> Work:
            stack.callback(warm.close)
            address = stack.enter_context(serve(DELAY))
            return over(mapped, fetch, [address] * 2000, CLIENTS)

        return open_it

    contestants = [Contestant(name, one(mapped)) for name, mapped in OF_THREADS.items()]
    return Row("2,000 HTTP requests, 10 ms each, 32 at a time", 2000, contestants, turn=INF, rounds=3)


def _with_copy_on_write(array: Any, starts: range) -> list[float]:
    """The stdlib's cheapest way: a global variable, and fork."""
    bind(array)
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        return pool.map(of_global, starts)


def _with_shared_memory(array: Any, starts: range) -> list[float]:
    """The stdlib's way without fork: a copy into a block that has a name."""
    import numpy

    block = multiprocessing.shared_memory.SharedMemory(create=True, size=array.nbytes)
    try:
        view = numpy.ndarray(array.shape, buffer=block.buf)
        view[:] = array
        del view
        with multiprocessing.Pool(WORKERS, attach, (block.name, array.shape)) as pool:
            return pool.map(of_global, starts)
    finally:
        block.close()
        block.unlink()


def _with_treadle(array: Any, starts: range) -> list[float]:
    shared = treadle.share(array)
    with treadle.Pool(WORKERS, "processes") as pool:
        return list(pool.map(row_norms, [shared] * len(starts), starts))


def _with_treadle_map(array: Any, starts: range) -> list[float]:
    return list(treadle.map(row_norms, [treadle.share(array)] * len(starts), starts, workers=WORKERS))


def _with_joblib(array: Any, starts: range) -> list[float]:
    """It writes a large argument into a file once, and maps that."""
    import joblib

    return list(joblib.Parallel(WORKERS)(joblib.delayed(row_norms)(array, start) for start in starts))


def _with_mpire(array: Any, starts: range) -> list[float]:
    """Shared objects: copy on write."""
    from mpire import WorkerPool

    with WorkerPool(WORKERS, shared_objects=array) as pool:
        return list(pool.map(row_norms, list(starts)))


def shared_array() -> Row:
    """All tasks read the same 200 MB; what must be copied is copied within the time."""

    def one(job: Callable[[Any, range], list[float]]) -> Callable[[ExitStack], Work]:
        def open_it(stack: ExitStack) -> Work:
            import numpy

            stack.callback(warm.close)
            array = numpy.ones((SIDE, SIDE))

            def work(count: int) -> None:
                found = job(array, range(0, max(1, count) * BLOCK, BLOCK))
                assert math.isclose(sum(found), max(1, count) * BLOCK * math.sqrt(SIDE))

            return work

        return open_it

    def alone(array: Any, starts: range) -> list[float]:
        return [row_norms(array, start) for start in starts]

    return Row(
        "numpy: all rows of a shared array of 200 MB", SIDE // BLOCK,
        [
            Contestant("treadle.map, treadle.share", one(_with_treadle_map)),
            Contestant("treadle.Pool, processes, treadle.share", one(_with_treadle)),
            Contestant("multiprocessing.Pool, fork and a global", one(_with_copy_on_write)),
            Contestant("multiprocessing.Pool, SharedMemory", one(_with_shared_memory)),
            Contestant("joblib, its memmap", one(_with_joblib)),
            Contestant("mpire, shared_objects", one(_with_mpire)),
            Contestant("numpy in a plain loop", one(alone), limit=True),
        ],
        turn=INF, rounds=5, quick=False,
    )  # fmt: skip


def monte_carlo() -> Row:
    """400 tasks that compute for some milliseconds each."""
    tasks = 400
    by_value = {name: OF_PROCESSES[name] for name in ("treadle.map", "treadle.Pool, processes", "joblib")}
    by_name = {name: OF_PROCESSES[name] for name in ("multiprocessing.Pool.map", "ProcessPoolExecutor.map", "mpire map",
                                                     "pebble map")}  # fmt: skip
    contestants = _jobs(by_value, closure(TRIALS), range(tasks), WORKERS)
    contestants += _jobs(
        {f"{name}, no closure": mapped for name, mapped in by_name.items()}, named, range(tasks), WORKERS
    )
    return Row("Monte Carlo with a small closure", tasks, contestants, turn=INF, rounds=3, quick=False)


def rows() -> list[Row]:
    """The rows of this group."""
    return [parsing(), hashing(), requests(), shared_array(), monte_carlo()]
