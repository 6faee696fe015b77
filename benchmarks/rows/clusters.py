"""treadle on Dask and Ray against one future a task, on the same cluster; and both beside treadle's own processes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import ExitStack
from typing import Any

import treadle

from ..harness import Contestant, Row, Work

WORKERS = 2
MILLIONS = 100_000_000 // 8  # numbers in 100 MB


def nap(seconds: float) -> float:
    """The task."""
    time.sleep(seconds)
    return seconds


def identity(x: Any) -> Any:
    """The task that costs nothing."""
    return x


def dask_client(stack: ExitStack) -> Any:
    """Of a cluster on this machine: two workers, a thread each."""
    import distributed

    cluster = stack.enter_context(
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.ERROR
        )
    )
    return stack.enter_context(distributed.Client(cluster))


def ray_module(stack: ExitStack, cpus: int) -> Any:
    """Ray, started here unless it runs already."""
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        stack.callback(ray.shutdown)
    return ray


def ours(engine: Any, fn: Callable[[Any], Any], item: Any, cluster: Callable[[ExitStack], Any] | None = None) -> Any:
    """Through a treadle pool."""

    def open_it(stack: ExitStack) -> Work:
        options = {"address": cluster(stack)} if cluster else {}
        pool = stack.enter_context(treadle.Pool(WORKERS, engine, **options))

        def work(count: int) -> None:
            assert sum(1 for _ in pool.map(fn, [item] * count)) == count

        return work

    return open_it


def ours_on_ray(fn: Callable[[Any], Any], item: Any) -> Callable[[ExitStack], Work]:
    """Two actors have two of its four CPUs, the tasks of the other contestant the other two."""

    def open_it(stack: ExitStack) -> Work:
        ray_module(stack, 4)
        work: Work = ours("ray", fn, item)(stack)
        return work

    return open_it


def on_dask(fn: Callable[[Any], Any], make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    """One future a task."""

    def open_it(stack: ExitStack) -> Work:
        client, item = dask_client(stack), make()

        def work(count: int) -> None:
            client.gather(client.map(fn, [item] * count, pure=False))

        return work

    return open_it


def on_ray(fn: Callable[[Any], Any], make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    """One object reference a task."""

    def open_it(stack: ExitStack) -> Work:
        ray, item = ray_module(stack, 4), make()
        remote = ray.remote(num_cpus=1)(fn)

        def work(count: int) -> None:
            ray.get([remote.remote(item) for _ in range(count)])

        return work

    return open_it


def bare_threads(fn: Callable[[Any], Any], item: Any) -> Callable[[ExitStack], Work]:
    """No cluster at all: as many threads as there are workers, each with its share of the naps."""

    def open_it(stack: ExitStack) -> Work:
        pool = stack.enter_context(futures.ThreadPoolExecutor(WORKERS))

        def share(count: int) -> None:
            for _ in range(count):
                fn(item)

        def work(count: int) -> None:
            futures.wait([pool.submit(share, count // WORKERS) for _ in range(WORKERS)])

        return work

    return open_it


def round_trips(kind: str) -> Callable[[ExitStack], Work]:
    """One no-op task after the other."""

    def open_it(stack: ExitStack) -> Work:
        if kind == "dask":
            client = dask_client(stack)
            return _one_by_one(lambda i: client.submit(identity, i, pure=False).result())
        if kind == "ray":
            ray = ray_module(stack, 4)
            remote = ray.remote(num_cpus=1)(identity)
            return _one_by_one(lambda i: ray.get(remote.remote(i)))
        pool = stack.enter_context(treadle.Pool(WORKERS, "processes"))
        return _one_by_one(lambda i: pool.submit(identity, i).result())

    return open_it


def _one_by_one(call: Callable[[int], Any]) -> Work:
    def work(count: int) -> None:
        for i in range(count):
            assert call(i) == i

    return work


def array_length(array: Any) -> int:
    """A task that does nothing with 100 MB."""
    return len(array)


def _array() -> Any:
    import numpy

    return numpy.ones(MILLIONS)


def large(kind: str) -> Callable[[ExitStack], Work]:
    """A fresh argument of 100 MB for each task: nobody has it already."""

    def open_it(stack: ExitStack) -> Work:
        array = _array()
        if kind == "dask":
            client = dask_client(stack)
            return _one_by_one_large(lambda: client.submit(array_length, array, pure=False).result())
        if kind == "ray":
            ray = ray_module(stack, 4)
            remote = ray.remote(num_cpus=1)(array_length)
            return _one_by_one_large(lambda: ray.get(remote.remote(array)))
        pool = stack.enter_context(treadle.Pool(WORKERS, "processes"))
        return _one_by_one_large(lambda: pool.submit(array_length, array).result())

    return open_it


def _one_by_one_large(call: Callable[[], int]) -> Work:
    def work(count: int) -> None:
        for _ in range(count):
            assert call() == MILLIONS

    return work


def rows() -> list[Row]:
    """The rows of this group."""
    found = []
    for count, seconds, goal in ((2000, 0.001, 2.0), (60, 0.1, 0.91)):
        label = f"{count:,} tasks of {seconds * 1000:g} ms"
        bare = Contestant("two threads, no cluster", bare_threads(nap, seconds), limit=True)
        found.append(Row(
            f"dask: {label}", count,
            [
                Contestant("treadle.Pool, dask", ours("dask", nap, seconds, dask_client)),
                Contestant("dask, one future a task", on_dask(nap, lambda seconds=seconds: seconds)),
                bare,
            ],
            {"dask, one future a task": goal}, turn=math.inf, rounds=3, quick=False,
        ))  # fmt: skip
        found.append(Row(
            f"ray: {label}", count,
            [
                Contestant("treadle.Pool, ray", ours_on_ray(nap, seconds)),
                Contestant("ray, one task each", on_ray(nap, lambda seconds=seconds: seconds)),
                bare,
            ],
            {"ray, one task each": goal}, turn=math.inf, rounds=3, quick=False,
        ))  # fmt: skip
    found.append(Row("one machine: no-op tasks, one after the other", 2000, [
        Contestant("treadle.Pool, processes", round_trips("treadle")),
        Contestant("dask local cluster", round_trips("dask"), 0.2),
        Contestant("ray local", round_trips("ray"), 0.2),
    ], quick=False))  # fmt: skip
    found.append(Row("one machine: no-op tasks, all at once", 5000, [
        Contestant("treadle.Pool, processes", ours("processes", identity, 1)),
        Contestant("dask local cluster", on_dask(identity, lambda: 1), 0.5),
        Contestant("ray local", on_ray(identity, lambda: 1), 0.5),
    ], quick=False))  # fmt: skip
    found.append(Row("one machine: a task with 100 MB of numpy", 10, [
        Contestant("treadle.Pool, processes", large("treadle")),
        Contestant("dask local cluster", large("dask")),
        Contestant("ray local", large("ray")),
    ], quick=False))  # fmt: skip
    return found
