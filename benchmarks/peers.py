"""A map over items, pool and all, as each library's users write it; the pool is opened and closed inside."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import treadle

Task = Callable[[Any], Any]
Map = Callable[[Task, Sequence[Any], int], Iterable[Any]]  # function, items, workers


def treadle_map(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """It finds out by itself whether threads or processes serve, and keeps its workers for the next one."""
    return treadle.map(fn, items, workers=workers)


def treadle_processes(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """A pool of its own, like the peers'."""
    with treadle.Pool(workers, "processes") as pool:
        yield from pool.map(fn, items)


def treadle_threads(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """The same with threads."""
    with treadle.Pool(workers, "threads") as pool:
        yield from pool.map(fn, items)


def stdlib_pool(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """multiprocessing.Pool: its own chunks."""
    with multiprocessing.Pool(workers) as pool:
        yield from pool.map(fn, items)


def stdlib_executor(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """ProcessPoolExecutor."""
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        yield from pool.map(fn, items)


def stdlib_threads(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """ThreadPoolExecutor."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(fn, items)


def stdlib_thread_pool(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """multiprocessing's ThreadPool."""
    with multiprocessing.pool.ThreadPool(workers) as pool:
        yield from pool.imap(fn, items)


def billiard_pool(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """Celery's fork of multiprocessing."""
    import billiard

    pool = billiard.Pool(workers)
    try:
        yield from pool.map(fn, items)
    finally:
        pool.close()
        pool.join()


def joblib_loky(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """Keeps its workers for the next one."""
    import joblib

    yield from joblib.Parallel(workers)(joblib.delayed(fn)(item) for item in items)


def joblib_threads(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """The same with threads."""
    import joblib

    yield from joblib.Parallel(workers, backend="threading")(joblib.delayed(fn)(item) for item in items)


def mpire_pool(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """With its default start method, fork."""
    from mpire import WorkerPool

    with WorkerPool(workers) as pool:
        yield from pool.map(fn, _ones(items))


def mpire_threads(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """The same with threads."""
    from mpire import WorkerPool

    with WorkerPool(workers, start_method="threading") as pool:
        yield from pool.map(fn, _ones(items))


def pebble_processes(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """Item by item."""
    import pebble

    with pebble.ProcessPool(max_workers=workers) as pool:
        yield from pool.map(fn, items).result()


def pebble_threads(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """The same with threads."""
    import pebble

    with pebble.ThreadPool(max_workers=workers) as pool:
        yield from pool.map(fn, items).result()


def plain_loop(fn: Task, items: Sequence[Any], workers: int) -> Iterable[Any]:
    """No concurrency at all."""
    return map(fn, items)


def _ones(items: Sequence[Any]) -> list[tuple[Any]]:
    return [(item,) for item in items]


OF_PROCESSES: dict[str, Map] = {
    "treadle.map": treadle_map,
    "treadle.Pool, processes": treadle_processes,
    "multiprocessing.Pool.map": stdlib_pool,
    "ProcessPoolExecutor.map": stdlib_executor,
    "joblib": joblib_loky,
    "mpire map": mpire_pool,
    "pebble map": pebble_processes,
    "billiard Pool.map": billiard_pool,
}
OF_THREADS: dict[str, Map] = {
    "treadle.map": treadle_map,
    "treadle.Pool, threads": treadle_threads,
    "ThreadPoolExecutor.map": stdlib_threads,
    "multiprocessing ThreadPool.imap": stdlib_thread_pool,
    "joblib (threading)": joblib_threads,
    "mpire map (threading)": mpire_threads,
    "pebble ThreadPool.map": pebble_threads,
}
