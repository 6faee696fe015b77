"""No-op tasks through pools: what a task costs when it costs nothing."""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
import multiprocessing
import multiprocessing.pool
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import treadle
import treadle.multiprocessing

from ..harness import Contestant, Row, Work

WORKERS = 2


def identity(x: Any) -> Any:
    """The task."""
    return x


def _submit_all(submit: Callable[..., Any], result: Callable[[Any], Any]) -> Work:
    def work(count: int) -> None:
        for future in [submit(identity, i) for i in range(count)]:
            result(future)

    return work


def _round_trips(submit: Callable[..., Any], result: Callable[[Any], Any]) -> Work:
    def work(count: int) -> None:
        for i in range(count):
            result(submit(identity, i))

    return work


def _consume(mapped: Callable[[range], Any]) -> Work:
    def work(count: int) -> None:
        total = 0
        for value in mapped(range(count)):
            total += value
        assert total == count * (count - 1) // 2

    return work


LARGE = 100_000_000 // 8  # numbers


def _argument(array: Any) -> int:
    return len(array)


def _result(_: Any) -> Any:
    import numpy

    return numpy.ones(LARGE)


def _both(array: Any) -> Any:
    return array


def _large(fn: Callable[..., Any], sends: bool) -> Callable[..., Work]:
    """Calls one after the other, with an array of 100 MB, or for one."""

    def shape(submit: Callable[..., Any], result: Callable[[Any], Any]) -> Work:
        import numpy

        array = numpy.ones(LARGE) if sends else None

        def work(count: int) -> None:
            for _ in range(count):
                result(submit(fn, array))

        return work

    return shape


def _future_result(future: Any) -> Any:
    return future.result()


def _async_get(result: Any) -> Any:
    return result.get()


def treadle_pool(engine: Any, shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """A treadle pool."""

    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(treadle.Pool(WORKERS, engine))
        return shape(pool.submit, _future_result)

    return open


def stdlib_executor(kind: Any, shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """concurrent.futures."""

    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(kind(WORKERS))
        return shape(pool.submit, _future_result)

    return open


def stdlib_pool(kind: Any, shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """multiprocessing.Pool and its ThreadPool."""

    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(kind(WORKERS))
        return shape(lambda fn, *args: pool.apply_async(fn, args), _async_get)

    return open


def mpire_pool(start_method: str, shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """mpire."""

    def open(stack: ExitStack) -> Work:
        from mpire import WorkerPool

        pool = stack.enter_context(WorkerPool(WORKERS, start_method=start_method))
        return shape(lambda fn, *args: pool.apply_async(fn, args), _async_get)

    return open


def pebble_pool(name: str, shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """pebble."""

    def open(stack: ExitStack) -> Work:
        import pebble

        pool = stack.enter_context(getattr(pebble, name)(max_workers=WORKERS))
        return shape(lambda fn, *args: pool.schedule(fn, args=args), _future_result)

    return open


def loky_pool(shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """loky, as joblib brings it."""

    def open(stack: ExitStack) -> Work:
        from joblib.externals.loky import ProcessPoolExecutor

        pool = stack.enter_context(ProcessPoolExecutor(WORKERS))
        return shape(pool.submit, _future_result)

    return open


def billiard_pool(shape: Callable[..., Work]) -> Callable[[ExitStack], Work]:
    """Celery's fork of multiprocessing."""

    def open(stack: ExitStack) -> Work:
        import billiard

        pool = billiard.Pool(WORKERS)
        stack.callback(pool.join)
        stack.callback(pool.terminate)
        return shape(lambda fn, *args: pool.apply_async(fn, args), _async_get)

    return open


def bare_pipes(stack: ExitStack) -> Work:
    """What a round trip costs at least: two pipes, a process at their other ends, the same pickling."""
    there, to_child = os.pipe()
    from_child, back = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_child)
        while call := os.read(there, 1 << 16):
            fn, args = pickle.loads(call)
            os.write(back, pickle.dumps(fn(*args)))
        os._exit(0)
    os.close(there)
    os.close(back)
    stack.callback(os.waitpid, child, 0)
    stack.callback(os.close, from_child)
    stack.callback(os.close, to_child)

    def work(count: int) -> None:
        for i in range(count):
            os.write(to_child, pickle.dumps((identity, (i,))))
            pickle.loads(os.read(from_child, 1 << 16))

    return work


def _map_treadle(engine: Any) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(treadle.Pool(WORKERS, engine))
        return _consume(lambda items: pool.map(identity, items))

    return open


def _map_stdlib(kind: Any, method: str, **options: Any) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        pool = stack.enter_context(kind(WORKERS))
        return _consume(functools.partial(getattr(pool, method), identity, **options))

    return open


def _map_joblib(**options: Any) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        import joblib

        task = joblib.delayed(identity)
        parallel = stack.enter_context(joblib.Parallel(WORKERS, **options))
        return _consume(lambda items: parallel(task(i) for i in items))

    return open


def _map_mpire(start_method: str) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        from mpire import WorkerPool

        pool = stack.enter_context(WorkerPool(WORKERS, start_method=start_method))
        return _consume(lambda items: pool.imap(identity, items))

    return open


def _map_pebble(name: str) -> Callable[[ExitStack], Work]:
    def open(stack: ExitStack) -> Work:
        import pebble

        pool = stack.enter_context(getattr(pebble, name)(max_workers=WORKERS))
        return _consume(lambda items: pool.map(identity, items).result())

    return open


def _map_warm(stack: ExitStack) -> Work:
    """`treadle.map` itself: each call finds the workers of the one before."""
    return _consume(lambda items: treadle.map(identity, items, engine="processes", workers=WORKERS))


_Processes = concurrent.futures.ProcessPoolExecutor
_Threads = concurrent.futures.ThreadPoolExecutor
_Pool = multiprocessing.Pool
_ThreadPool = multiprocessing.pool.ThreadPool


GOALS: dict[Any, dict[str, float]] = {
    _submit_all: {
        "multiprocessing.Pool.apply_async": 10,
        "ProcessPoolExecutor.submit": 30,
        "loky submit": 20,
        "pebble schedule": 20,
    },
    _round_trips: {"bare ping-pong over two pipes": 0.5, "ProcessPoolExecutor.submit": 5},
}


def rows() -> list[Row]:
    """The rows of this group."""
    shapes = {
        "submit all, then every result": (_submit_all, 20_000),
        "round trip on an idle pool": (_round_trips, 2_000),
    }
    bare = Contestant("bare ping-pong over two pipes", bare_pipes, limit=True)
    found = []
    for title, (shape, count) in shapes.items():
        found.append(
            Row(
                f"processes: {title}",
                count,
                [
                    Contestant("treadle.Pool.submit", treadle_pool("processes", shape)),
                    Contestant("multiprocessing.Pool.apply_async", stdlib_pool(_Pool, shape)),
                    Contestant("ProcessPoolExecutor.submit", stdlib_executor(_Processes, shape), 0.2),
                    Contestant("mpire apply_async", mpire_pool("forkserver", shape), 0.2),
                    Contestant("pebble schedule", pebble_pool("ProcessPool", shape), 0.1),
                    Contestant("loky submit", loky_pool(shape), 0.1),
                    Contestant("billiard apply_async", billiard_pool(shape), 0.3),
                    *([bare] if shape is _round_trips else ()),
                ],
                GOALS[shape],
            )
        )
        found.append(
            Row(
                f"threads: {title}",
                count,
                [
                    Contestant("treadle.Pool.submit", treadle_pool("threads", shape)),
                    Contestant("multiprocessing ThreadPool", stdlib_pool(_ThreadPool, shape)),
                    Contestant("ThreadPoolExecutor.submit", stdlib_executor(_Threads, shape)),
                    Contestant("mpire apply_async", mpire_pool("threading", shape), 0.2),
                    Contestant("pebble schedule", pebble_pool("ThreadPool", shape), 0.2),
                ],
                {"ThreadPoolExecutor.submit": 3} if shape is _submit_all else {},
            )
        )
    found.append(
        Row(
            "processes: map over ints, no chunk size asked of the user",
            50_000,
            [
                Contestant("treadle Pool.map", _map_treadle("processes")),
                Contestant("multiprocessing Pool.imap", _map_stdlib(_Pool, "imap")),
                Contestant("multiprocessing Pool.map (eager)", _map_stdlib(_Pool, "map")),
                Contestant("ProcessPoolExecutor.map", _map_stdlib(_Processes, "map"), 0.1),
                Contestant("joblib (loky)", _map_joblib(), 0.2),
                Contestant("mpire imap", _map_mpire("forkserver")),
                Contestant("pebble map", _map_pebble("ProcessPool"), 0.1),
            ],
        )
    )
    found.append(
        Row(
            "threads: map over ints",
            50_000,
            [
                Contestant("treadle Pool.map", _map_treadle("threads")),
                Contestant("multiprocessing ThreadPool.imap", _map_stdlib(_ThreadPool, "imap")),
                Contestant("ThreadPoolExecutor.map", _map_stdlib(_Threads, "map")),
                Contestant("joblib (threading)", _map_joblib(backend="threading"), 0.2),
                Contestant("mpire imap", _map_mpire("threading")),
                Contestant("pebble map", _map_pebble("ThreadPool"), 0.2),
            ],
        )
    )
    found.append(
        Row(
            "processes: map over a million ints",
            1_000_000,
            [
                Contestant("treadle Pool.map", _map_treadle("processes")),
                Contestant("treadle.map", _map_warm),
                Contestant("treadle.multiprocessing Pool.map", _map_stdlib(treadle.multiprocessing.Pool, "map")),
                *[
                    Contestant(f"multiprocessing Pool.map, chunks of {size}", _map_stdlib(_Pool, "map", chunksize=size))
                    for size in (1_000, 10_000, 125_000)
                ],
                Contestant(
                    "ProcessPoolExecutor.map, chunks of 10000", _map_stdlib(_Processes, "map", chunksize=10_000), 0.2
                ),
                Contestant("joblib (loky)", _map_joblib(), 0.05),
            ],
        )
    )
    return found + _large_rows()


def _large_rows() -> list[Row]:
    """100 MB in one array, where numpy is installed."""
    if importlib.util.find_spec("numpy") is None:
        return []
    titles = {"argument": (_argument, True), "result": (_result, False), "argument and result": (_both, True)}
    return [
        Row(
            f"processes: 100 MB numpy, {title}",
            10,
            [
                Contestant("treadle.Pool.submit", treadle_pool("processes", _large(fn, sends))),
                Contestant("multiprocessing.Pool.apply_async", stdlib_pool(_Pool, _large(fn, sends))),
                Contestant("ProcessPoolExecutor.submit", stdlib_executor(_Processes, _large(fn, sends))),
                Contestant("loky submit", loky_pool(_large(fn, sends))),
            ],
            {"ProcessPoolExecutor.submit": 10} if sends and fn is _both else {},
            turn=1.5,
            quick=fn is _both,
        )
        for title, (fn, sends) in titles.items()
    ]
