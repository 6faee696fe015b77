"""One contract, several flavours: each executor is made by the same call."""

from __future__ import annotations

import multiprocessing
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from contract_work import MakeExecutor

import treadle
import treadle.futures
from treadle.engines import Abilities, abilities

TREADLE = {
    "threads": lambda workers: treadle.Pool(workers, engine="threads"),
    "processes": lambda workers: treadle.Pool(workers, engine="processes"),
    "auto": lambda workers: treadle.Pool(workers, engine="auto"),
    "inline": lambda workers: treadle.Pool(workers, engine="inline"),
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


@pytest.fixture(params=[*TREADLE, *FUTURES, *STDLIB])
def make(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    """Makes executors, ours and the standard library's; shuts down what the test did not."""
    if request.param in TREADLE:
        _require(request, request.param)
    yield from _maker({**TREADLE, **FUTURES, **STDLIB}, request.param)


@pytest.fixture(params=list(TREADLE))
def pools(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    """Makes treadle's pools only."""
    _require(request, request.param)
    yield from _maker(TREADLE, request.param)


@pytest.fixture(params=list(TREADLE))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine, for `treadle.map`."""
    name: str = request.param
    _require(request, name)
    return name
