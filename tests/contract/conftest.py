"""One contract, several flavours: each executor is made by the same call.

Engines that need a cluster have one, which is made when the first test needs it; their tests come last, and are heavy.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import cluster_work
import pytest
from contract_work import MakeExecutor
from engine_work import CLUSTERS, engines

import treadle
import treadle.futures
import treadle.pool.warm
from treadle.engines import Abilities, abilities

TREADLE = {
    "threads": lambda workers: treadle.Pool(workers, engine="threads"),
    "processes": lambda workers: treadle.Pool(workers, engine="processes"),
    "auto": lambda workers: treadle.Pool(workers, engine="auto"),
    "inline": lambda workers: treadle.Pool(workers, engine="inline"),
    "interpreters": lambda workers: treadle.Pool(workers, engine="interpreters"),
    "dask": lambda workers: treadle.Pool(workers, engine="dask", address=cluster_work.address["dask"]),
    "ray": lambda workers: treadle.Pool(workers, engine="ray", address=cluster_work.address["ray"]),
}
FUTURES = {
    "futures-threads": lambda workers: treadle.futures.ThreadPoolExecutor(workers),
    "futures-processes": lambda workers: treadle.futures.ProcessPoolExecutor(workers),
}
STDLIB = {
    "stdlib-threads": lambda workers: ThreadPoolExecutor(workers),
    # "fork", because it leaves no helper process behind that would look like a leak.
    "stdlib-processes": lambda workers: ProcessPoolExecutor(workers, multiprocessing.get_context("fork")),
}


# What "auto" can do: what both of its engines can.
AUTO = Abilities(*[all(pair) for pair in zip(abilities("threads"), abilities("processes"), strict=True)])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a cluster come last, and the cluster before all else that they need: it is not theirs to clean up."""
    clusters: dict[str, list[pytest.Item]] = {name: [] for name in CLUSTERS}
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        for name in CLUSTERS:
            fixture = f"{name}_cluster"
            named = item.get_closest_marker("heavy") is not None and any(str(value) == name for value in values)
            if named and fixture not in item.fixturenames:
                item.fixturenames = [fixture, *item.fixturenames]  # the list is that of all with other parameters, too
            if fixture in item.fixturenames:
                clusters[name].append(item)
    last = [item for name in CLUSTERS for item in clusters[name]]
    items[:] = [item for item in items if item not in set(last)] + last


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster_work.DaskCluster]:
    """Three workers, for all tests that leave them as they are; and the program's default client is of them."""
    distributed = pytest.importorskip("distributed", reason="treadle[dask] is not installed")
    distributed.utils._offload_executor.submit(int).result()  # a thread of Dask's, that stays
    with cluster_work.dask_cluster(tmp_path_factory.mktemp("dask")) as made:
        cluster_work.address["dask"] = made.address
        with distributed.Client(made.address), treadle.Pool(engine="dask", address=made.address) as pool:
            assert sum(pool.map(cluster_work.brief, range(300))) > 0  # what stays in this process is there now
            pool.shutdown()
            yield made


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster_work.RayCluster]:
    """Two nodes, three CPUs, and this program connected to them: once, as that takes seconds."""
    ray = pytest.importorskip("ray", reason="treadle[ray] is not installed")

    os.environ.update(cluster_work.RAY_ENVIRONMENT)
    with cluster_work.ray_cluster(tmp_path_factory.mktemp("ray"), (2, 1)) as made:
        cluster_work.address["ray"] = made.address
        ray.init(made.address, log_to_driver=False, configure_logging=False)
        try:
            # What stays in this process is there when each node has been spoken to, and has been given something large.
            with treadle.Pool(engine="ray", address=made.address) as pool:
                assert sum(pool.map(cluster_work.brief, range(300))) > 0
                cluster_work.until(lambda: sum(worker.state == "idle" for worker in pool.stats().workers) == 3)
                large = b"x" * (3 << 20)
                assert len(list(pool.map(cluster_work.size, [large] * 60, range(60)))) == 60
            with treadle.Pool(engine="ray"):  # while there is another pool, actors go from one to the next
                yield made
        finally:
            ray.shutdown()


@pytest.fixture(autouse=True)
def _leaves_nothing_on_the_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    clusters = [request.getfixturevalue(f) for f in request.fixturenames if f in ("dask_cluster", "ray_cluster")]
    yield
    for each in clusters:
        treadle.pool.warm.close()
        cluster_work.until(lambda each=each: not each.left(), 40)  # a station's lease, where a program was killed


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(ability, ...): of treadle's engines, only those that can do this")


def _require(request: pytest.FixtureRequest, name: str) -> None:
    """Leave the test out where the engine can't do what it needs."""
    can = AUTO if name == "auto" else abilities(name)
    for marker in request.node.iter_markers("needs"):
        for ability in marker.args:
            if not getattr(can, ability):
                pytest.skip(f"engine {name!r} has no {ability}")


def _maker(makers: dict[str, Callable[[int], Executor]], name: str) -> Iterator[MakeExecutor]:
    made: list[weakref.ref[Executor]] = []  # so that a test may drop its executor

    def make(workers: int = 2) -> Executor:
        executor = makers[name](workers)
        made.append(weakref.ref(executor))
        return executor

    make.name = name  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
        yield make
        for each in made:
            executor = each()
            if executor is not None:
                executor.shutdown(cancel_futures=True)


@pytest.fixture(params=[*engines(*TREADLE), *FUTURES, *STDLIB])
def make(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    """Makes executors, ours and the standard library's; shuts down what the test did not."""
    if request.param in TREADLE:
        _require(request, request.param)
    yield from _maker({**TREADLE, **FUTURES, **STDLIB}, request.param)


@pytest.fixture(params=engines(*TREADLE))
def pools(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    """Makes treadle's pools only."""
    _require(request, request.param)
    yield from _maker(TREADLE, request.param)


@pytest.fixture(params=engines(*TREADLE, by_hand=("ray",)))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine, for `treadle.map`."""
    name: str = request.param
    _require(request, name)
    return name
