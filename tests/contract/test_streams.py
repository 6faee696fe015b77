"""`map(..., stream=True)`: generators whose values arrive as they go."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import stream_work as work
from patience import until

import treadle

ENGINES = ("threads", "processes", "auto")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ordered", [True, False])
def test_all_values_arrive_those_of_an_input_in_order(engine: Any, ordered: bool) -> None:
    numbers = [5, 0, 300, 1, 17, 200, 2, 2]
    with treadle.Pool(3, engine) as pool:
        found = list(pool.map(work.count, numbers, stream=True, ordered=ordered))
    wanted = [pair for number in numbers for pair in work.count(number)]
    if ordered:
        assert found == wanted
    else:
        assert sorted(found) == sorted(wanted)
        assert [pair for pair in found if pair[0] == 300] == list(work.count(300))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_arrives_before_the_next_one_is_made(engine: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    values = treadle.map(work.gated, [str(gate)], stream=True, engine=engine, workers=1)
    assert next(values) == 1
    gate.touch()
    assert list(values) == [2]


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_worker_waits_for_its_reader_and_is_ended_with_the_iteration(engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "position"

    def position() -> int:
        try:
            return int(path.read_text() or 0)
        except OSError:
            return 0

    def stands_still() -> bool:
        before = position()
        time.sleep(0.15)
        return before > 0 and position() == before

    with treadle.Pool(1, engine) as pool:
        values = pool.map(work.forever, [str(path)], stream=True)
        assert [n for n, _ in itertools.islice(values, 3)] == [0, 1, 2]
        until(stands_still)
        assert position() < 1_000
        # It goes on where it was, and nothing is lost.
        more = position() + 500
        assert [n for n, _ in itertools.islice(values, more)] == list(range(3, 3 + more))
        values.close()
        assert list(values) == []
        assert pool.submit(abs, -3).result(20) == 3, "the worker is free again"
        if engine == "threads":
            until(Path(f"{path}.closed").exists)


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_one_that_is_dropped_ends_too(engine: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, engine) as pool:
        values = pool.map(work.forever, [str(tmp_path / "position")], stream=True)
        assert next(values)[0] == 0
        del values
        gc.collect()
        assert pool.submit(abs, -3).result(20) == 3


def test_large_values_do_not_pile_up() -> None:
    def rss() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = rss()
    most = total = 0
    for value in treadle.map(work.large, [150, 150], stream=True, engine="processes", workers=2):
        total += len(value)
        most = max(most, rss() - before)
    assert total == 300 * 300_000
    assert most < 45_000_000


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raises", ValueError),
        ("dies", treadle.WorkerDied),
        ("hangs", treadle.TaskTimeout),
        ("unpicklable", treadle.ResultNotPicklable),
    ],
)
def test_what_came_before_a_failure_comes_first_and_is_not_repeated(how: str, error: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, "processes") as pool:
        values = pool.map(work.break_off, [how], [str(tmp_path)], stream=True, retries=3, timeout=0.5)
        assert [next(values), next(values)] == [1, 2]
        with pytest.raises(error):
            next(values)
        assert len(list(tmp_path.iterdir())) == 1, "it was tried again, although it had yielded"
        values = pool.map(work.break_off, [how, "not"], stream=True, timeout=0.5, on_error="return")
        found = list(values)
        assert [v for v in found if not isinstance(v, BaseException)] == [1, 2, 1, 2, 3]
        assert isinstance(found[2], error)
        assert list(pool.map(work.break_off, [how, "not"], stream=True, timeout=0.5, on_error="skip")) == [
            1,
            2,
            1,
            2,
            3,
        ]


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_one_that_has_yielded_nothing_is_tried_again(engine: Any, tmp_path: Path) -> None:
    with treadle.Pool(1, engine) as pool:
        assert list(pool.map(work.fail_first, [str(tmp_path)], stream=True, retries=2)) == [1, 2]
        with pytest.raises(ValueError, match="in the middle"):
            list(pool.map(work.break_off, ["raises"], stream=True, retries=2))


def test_other_work_goes_on_beside_it() -> None:
    with treadle.Pool(2, "processes") as pool:
        values = pool.map(work.pids, [5_000, 5_000], stream=True)
        first = [next(values) for _ in range(10)]
        values.close()
        assert len(set(first)) == 1
        assert list(pool.map(abs, range(100))) == list(range(100))


def test_outcomes_and_mistakes() -> None:
    with treadle.Pool(1, "threads") as pool:
        outcomes = list(pool.map(work.break_off, ["not", "raises"], stream=True).outcomes())
        assert [(o.index, o.ok, o.value) for o in outcomes] == [
            (0, True, 1), (0, True, 2), (0, True, 3), (1, True, 1), (1, True, 2), (1, False, None),
        ]  # fmt: skip
        with pytest.raises(TypeError, match="not iterable"):
            list(pool.map(abs, [1], stream=True))
        with pytest.raises(ValueError, match="a map that streams has no"):
            pool.map(work.count, [1], stream=True, buffer=3)


# -- asyncio


async def _slowly(values: list[Any], gate: asyncio.Event) -> Any:
    """Gives them, but for the last one, which it gives when the gate is open."""
    for value in values[:-1]:
        yield value
    await gate.wait()
    yield values[-1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_asyncio_gets_all_values(engine: Any, ordered: bool, asynchronous: bool) -> None:
    numbers = [5, 0, 300, 1, 17, 200, 2, 2]

    async def source() -> Any:
        for number in numbers:
            await asyncio.sleep(0)
            yield number

    async def run(pool: treadle.Pool) -> list[Any]:
        inputs = source() if asynchronous else numbers
        return [value async for value in pool.amap(work.count, inputs, stream=True, ordered=ordered)]

    with treadle.Pool(3, engine) as pool:
        found = asyncio.run(run(pool))
    wanted = [pair for number in numbers for pair in work.count(number)]
    assert found == wanted if ordered else sorted(found) == sorted(wanted)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_asyncio_gets_a_value_while_its_source_waits(engine: Any, stream: bool) -> None:
    """The source's last input comes only when the results of the others have come out."""

    async def run(pool: treadle.Pool) -> None:
        gate = asyncio.Event()
        fn = work.count if stream else abs
        values = pool.amap(fn, _slowly([2, 1, 3], gate), stream=stream)
        first = 3 if stream else 2
        found = [await asyncio.wait_for(anext(values), 20) for _ in range(first)]
        gate.set()
        found += [value async for value in values]
        assert found == ([(2, 0), (2, 1), (1, 0), (3, 0), (3, 1), (3, 2)] if stream else [2, 1, 3])

    with treadle.Pool(2, engine) as pool:
        asyncio.run(run(pool))


@pytest.mark.parametrize("how", ["aclose", "cancel", "drop", "block"])
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_asyncio_ends_a_generator_that_has_no_end(engine: Any, how: str, tmp_path: Path) -> None:
    async def run(pool: treadle.Pool) -> None:
        async def endless() -> Any:
            while True:
                await asyncio.sleep(0)
                yield str(tmp_path / "position")

        values = pool.amap(work.forever, endless(), stream=True)
        assert (await anext(values))[0] == 0
        if how == "aclose":
            await values.aclose()
        elif how == "block":
            async with values:
                pass
        elif how == "drop":
            del values
            gc.collect()
        else:

            async def read() -> None:
                async for _ in values:
                    pass

            reader = asyncio.create_task(read())
            await asyncio.sleep(0.01)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
        assert await asyncio.wait_for(pool.asubmit(abs, -3), 20) == 3, "the worker is free again"
        for _ in range(3):
            await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if "amap" in task.get_name()] == []

    with treadle.Pool(1, engine) as pool:
        asyncio.run(run(pool))


def test_asyncio_gets_the_errors_of_streams_and_of_sources() -> None:
    async def broken() -> Any:
        yield "not"
        raise KeyError("the source")

    async def run(pool: treadle.Pool) -> None:
        values = pool.amap(work.break_off, ["raises", "not"], stream=True)
        assert [await anext(values), await anext(values)] == [1, 2]
        with pytest.raises(ValueError, match="in the middle"):
            await anext(values)
        found = [value async for value in pool.amap(work.break_off, ["raises", "not"], stream=True, on_error="skip")]
        assert found == [1, 2, 1, 2, 3]
        outcomes = [o async for o in pool.amap(work.break_off, ["not", "raises"], stream=True).outcomes()]
        assert [(o.index, o.ok) for o in outcomes] == [(0, True)] * 3 + [(1, True), (1, True), (1, False)]
        for stream in (True, False):
            fn = work.break_off if stream else len
            values, found = pool.amap(fn, broken(), stream=stream), []
            with pytest.raises(KeyError, match="the source"):
                async for value in values:
                    found.append(value)
            assert found == ([1, 2, 3] if stream else [3])
        with pytest.raises(ValueError, match="no progress, prefetch or buffer"):
            pool.amap(work.count, [1], stream=True, buffer=3)

    with treadle.Pool(1, "processes") as pool:
        asyncio.run(run(pool))


def test_asyncio_is_told_when_the_pool_closes_under_it() -> None:
    async def run(pool: treadle.Pool, stream: bool) -> None:
        gate = asyncio.Event()
        values = pool.amap(work.count if stream else abs, _slowly([1, 2], gate), stream=stream)
        assert await anext(values) == ((1, 0) if stream else 1)
        pool.shutdown()
        gate.set()
        with pytest.raises(treadle.PoolClosed):
            await asyncio.wait_for(anext(values), 20)

    for stream in (False, True):
        asyncio.run(run(treadle.Pool(1, "threads"), stream))
