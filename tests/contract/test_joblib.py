"""joblib with treadle's backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import futures_work as work
import pytest

import treadle

joblib = pytest.importorskip("joblib", reason="joblib is not installed")

from treadle import joblib as ours  # noqa: E402 - needs joblib

ENGINES = pytest.mark.parametrize("engine", ["processes", "threads"])


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    ours.register()
    yield
    while ours._pools:  # they would stay for the next `Parallel`, and look like a leak
        ours._pools.popitem()[1].shutdown()


@ENGINES
def test_results_in_order(engine: str) -> None:
    with joblib.parallel_config(backend="treadle", n_jobs=2, engine=engine):
        assert joblib.Parallel()(joblib.delayed(work.square)(i) for i in range(500)) == [i * i for i in range(500)]
        assert joblib.Parallel()(joblib.delayed(lambda x: -x)(i) for i in range(5)) == [0, -1, -2, -3, -4]
        lazy = joblib.Parallel(return_as="generator")(joblib.delayed(work.square)(i) for i in range(5))
        assert list(lazy) == [0, 1, 4, 9, 16]


@ENGINES
def test_one_pool_serves_many_calls(engine: str) -> None:
    with joblib.parallel_config(backend="treadle", n_jobs=2, engine=engine):
        for _ in range(3):
            joblib.Parallel()(joblib.delayed(work.square)(i) for i in range(10))
    assert len(ours._pools) == 1


@ENGINES
def test_an_error_comes_through(engine: str) -> None:
    with joblib.parallel_config(backend="treadle", n_jobs=2, engine=engine):
        with pytest.raises(LookupError, match="not today"):
            joblib.Parallel()(joblib.delayed(work.refuse)() for i in range(10))
        assert joblib.Parallel()(joblib.delayed(work.square)(i) for i in range(4)) == [0, 1, 4, 9]


def test_an_error_ends_the_calls_that_run(tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    with joblib.parallel_config(backend="treadle", n_jobs=2):
        begin = time.monotonic()
        with pytest.raises(KeyError, match="first"):
            joblib.Parallel(batch_size=1)(joblib.delayed(work.sleep_unless_first)(i, started) for i in range(3))
        assert time.monotonic() - begin < 20
        assert joblib.Parallel()(joblib.delayed(work.square)(i) for i in range(4)) == [0, 1, 4, 9]


def test_a_crash_names_the_worker() -> None:
    with joblib.parallel_config(backend="treadle", n_jobs=2):
        with pytest.raises(treadle.WorkerDied, match="SIGKILL"):
            joblib.Parallel(batch_size=1)(joblib.delayed(work.die_on_three)(i) for i in range(6))
        assert joblib.Parallel()(joblib.delayed(work.square)(i) for i in range(4)) == [0, 1, 4, 9]


def nested(n: int) -> int:
    return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(work.square)(i) for i in range(n)))


@ENGINES
def test_nested(engine: str) -> None:
    with joblib.parallel_config(backend="treadle", n_jobs=2, engine=engine):
        assert joblib.Parallel()(joblib.delayed(nested)(n) for n in range(6)) == [0, 0, 1, 5, 14, 30]


def test_numbers_of_jobs() -> None:
    with joblib.parallel_config(backend="treadle"):
        assert joblib.effective_n_jobs() == treadle.available_cpus()
        assert joblib.effective_n_jobs(3) == 3
        assert joblib.effective_n_jobs(-1000) == 1
        assert joblib.Parallel(n_jobs=1)(joblib.delayed(work.square)(i) for i in range(3)) == [0, 1, 4]
        with pytest.raises(ValueError):
            joblib.Parallel(n_jobs=0)(joblib.delayed(work.square)(i) for i in range(3))
    with pytest.raises(ValueError, match="engine"):
        joblib.parallel_config(backend="treadle", engine="coal")
    with joblib.parallel_config(backend="treadle", n_jobs=2, engine="threads"):
        shared: list[int] = []
        joblib.Parallel(require="sharedmem")(joblib.delayed(shared.append)(i) for i in range(5))
        assert sorted(shared) == [0, 1, 2, 3, 4]
