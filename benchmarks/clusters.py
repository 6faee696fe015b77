"""treadle on Dask and Ray against one future a task, on the same cluster: two workers of this machine.

Run it by hand, with the extras: ``python -m benchmarks.clusters dask`` or ``ray``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import treadle

ROUNDS = 5


def task(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def report(name: str, ours: Callable[[list[float]], Any], theirs: Callable[[list[float]], Any]) -> None:
    """Both in turn, so that whatever else the machine does hits both; the ratio is one of medians."""
    for label, items in (("1,000 tasks of 1 ms", [0.001] * 1000), ("40 tasks of 100 ms", [0.1] * 40)):
        times: tuple[list[float], list[float]] = ([], [])
        for run in (ours, theirs):
            run(items[:40])
        for _ in range(ROUNDS):
            for run, into in zip((ours, theirs), times, strict=True):
                begin = time.perf_counter()
                run(items)
                into.append(time.perf_counter() - begin)
        mine, other = map(statistics.median, times)
        print(
            f"{name}: {label}: treadle {mine:.2f} s, one future a task {other:.2f} s, ratio {other / mine:.2f}",
            flush=True,
        )


def dask() -> None:
    import distributed

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        with distributed.Client(cluster) as client, treadle.Pool(engine="dask", address=client) as pool:
            report(
                "dask",
                lambda items: list(pool.map(task, items)),
                lambda items: client.gather(client.map(task, items, pure=False)),
            )


def ray_() -> None:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1)(task)
    with treadle.Pool(2, engine="ray") as pool:
        # The pool's two actors have two of the CPUs, the tasks the other two.
        report(
            "ray", lambda items: list(pool.map(task, items)), lambda items: ray.get([remote.remote(x) for x in items])
        )
    ray.shutdown()


if __name__ == "__main__":
    {"dask": dask, "ray": ray_}[sys.argv[1]]()
