"""`treadle.map`: lazy, bounded, ordered or not, and one bad item spoils one item."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract_work as work
import pytest
from contract_work import MakeExecutor

import treadle
from treadle.pool.driver import Driver
from treadle.pool.inbox import LARGEST
from treadle.pool.task import Task
from treadle.testing.leaks import descendants


def counting(taken: list[int], stop: int | None = None) -> Iterator[int]:
    """Numbers, and a note of each that was taken."""
    for i in itertools.count() if stop is None else range(stop):
        taken.append(i)
        yield i


# -- lazy and bounded


def test_nothing_runs_before_the_first_next(engine: str, tmp_path: Path) -> None:
    taken: list[int] = []
    results = treadle.map(work.square, counting(taken), engine=engine)
    assert taken == [] and results.decision is None and results.stats() is None
    assert next(results) == 0 and taken
    results.close()


def test_infinite_input_and_bounded_window(engine: str) -> None:
    taken: list[int] = []
    with treadle.map(work.square, counting(taken), engine=engine, workers=2, buffer=10) as results:
        for i in range(200):
            assert next(results) == i * i
            assert len(taken) <= i + 1 + 10, "never more than `buffer` submitted and unread"
    taken_then = len(taken)
    with pytest.raises(StopIteration):
        next(results)
    assert len(taken) == taken_then


@pytest.mark.parametrize("buffer", [1, 2, 3])
def test_smallest_windows(engine: str, buffer: int) -> None:
    for ordered in (True, False):
        results = treadle.map(work.square, range(40), engine=engine, workers=2, buffer=buffer, ordered=ordered)
        assert sorted(results) == [i * i for i in range(40)]


def test_default_window_is_small_at_first(engine: str) -> None:
    taken: list[int] = []
    with treadle.map(work.square, counting(taken, 200_000), engine=engine, workers=2) as results:
        assert next(results) == 0
        assert len(taken) <= 20, "the best peer's figure"


def test_the_window_has_a_largest_size() -> None:
    taken: list[int] = []
    with treadle.map(work.square, counting(taken), engine="threads", workers=2) as results:
        for _ in range(50):
            next(results)
            # Let the workers finish what there is before the next is read, so that they run dry each time.
            deadline = time.monotonic() + 5
            while (stats := results.stats()) and stats.done < len(taken) and time.monotonic() < deadline:
                time.sleep(0.001)
        assert len(taken) <= 50 + LARGEST


def test_a_slow_source_does_not_hold_back_results(engine: str) -> None:
    """With `prefetch`, what is there is handed out although the source has no more for now."""
    release = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        yield 2
        yield 3
        assert release.wait(20)
        yield 4

    results = treadle.map(work.square, source(), engine=engine, workers=2, prefetch=True)
    got: list[int] = []
    arrived = threading.Semaphore(0)

    def read() -> None:
        for result in results:
            got.append(result)
            arrived.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            assert arrived.acquire(timeout=5), f"only {got} came while the source was blocked"
    finally:
        release.set()
        reader.join(20)
    assert got == [1, 4, 9, 16]


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _flat(items: int, warm: int, allowed: int, **how: Any) -> None:
    most = start = 0
    for i, result in enumerate(treadle.map(work.square, range(items), workers=2, **how)):
        assert result == i * i
        if i == warm:
            gc.collect()
            start = _rss()
        elif i > warm and i % 5000 == 0:
            most = max(most, _rss() - start)
    assert i == items - 1
    assert most < allowed, f"grew by {most / 1e6:.1f} MB over {items} items"


@pytest.mark.needs("background")
def test_memory_is_flat(engine: str) -> None:
    _flat(60_000, 20_000, 6_000_000, engine=engine)


@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "how", [{"engine": "processes"}, {"engine": "threads"}, {"engine": "auto", "on_error": "skip"}]
)
def test_memory_is_flat_over_ten_million_items(how: dict[str, Any]) -> None:
    _flat(10_000_000, 200_000, 10_000_000, **how)


def test_large_results_do_not_pile_up() -> None:
    """A window of many items, each a megabyte: bytes count too, and what was read is given up."""
    start = _rss()
    most = 0
    for blob in treadle.map(bytes, [1_000_000] * 600, engine="processes", workers=2):
        assert len(blob) == 1_000_000
        most = max(most, _rss() - start)
    assert most < 150_000_000


def test_large_arguments_do_not_pile_up() -> None:
    start = _rss()
    most = 0
    for size in treadle.map(len, (bytes(1_000_000) for _ in range(600)), engine="processes", workers=2):
        assert size == 1_000_000
        most = max(most, _rss() - start)
    assert most < 150_000_000


# -- order


def test_ordered(engine: str) -> None:
    assert list(treadle.map(work.square, range(3000), engine=engine)) == [i * i for i in range(3000)]


def test_ordered_waits_for_the_first(engine: str, tmp_path: Path) -> None:
    results = treadle.map(work.after, [str(tmp_path / "go"), str(tmp_path)], "ab", engine=engine, workers=2)
    timer = threading.Timer(0.2, work.touch, [tmp_path / "go"])
    timer.start()
    assert list(results) == ["a", "b"]
    timer.join()


@pytest.mark.needs("background")
def test_unordered_does_not(engine: str, tmp_path: Path) -> None:
    gates = [str(tmp_path / "go"), str(tmp_path), str(tmp_path)]
    results = treadle.map(work.after, gates, "abc", engine=engine, workers=2, ordered=False)
    assert {next(results), next(results)} == {"b", "c"}
    work.touch(tmp_path / "go")
    assert list(results) == ["a"]


def test_unordered_gives_everything_once(engine: str) -> None:
    results = list(treadle.map(work.square, range(2000), engine=engine, ordered=False, workers=3))
    assert sorted(results) == [i * i for i in range(2000)]


# -- inputs


def test_no_items_and_no_iterables(engine: str) -> None:
    assert list(treadle.map(work.square, [], engine=engine)) == []
    assert list(treadle.map(work.nothing, engine=engine)) == []


def test_several_iterables_until_the_shortest(engine: str) -> None:
    assert list(treadle.map(work.add, itertools.count(), [10, 20, 30], engine=engine)) == [10, 21, 32]


def test_not_iterable(engine: str) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(treadle.map(work.square, 5, engine=engine))  # type: ignore[arg-type]


def test_source_that_raises_in_the_middle(engine: str) -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise LookupError("the source is dry")

    for on_error in ("raise", "return", "skip"):
        got: list[int] = []
        with pytest.raises(LookupError, match="the source is dry"):
            got.extend(treadle.map(work.square, source(), engine=engine, on_error=on_error))  # type: ignore[arg-type]
        assert got == [i * i for i in range(10)], "what came before it is delivered before it"


def test_source_that_raises_at_once(engine: str) -> None:
    def source() -> Iterator[int]:
        raise LookupError("dry from the start")
        yield 1

    with pytest.raises(LookupError):
        next(treadle.map(work.square, source(), engine=engine))


def test_the_source_is_a_map(engine: str) -> None:
    inner = treadle.map(work.square, range(100), engine=engine, workers=2)
    assert list(treadle.map(work.square, inner, engine=engine, workers=2)) == [i**4 for i in range(100)]


def test_maps_in_parallel_on_one_pool(pools: MakeExecutor) -> None:
    with pools() as pool:
        first, second = pool.map(work.square, range(200)), pool.map(work.add, range(200), range(200))
        for i in range(200):
            assert (next(first), next(second)) == (i * i, 2 * i)
        with pytest.raises(StopIteration):
            next(first)


# -- errors


def test_raise_ends_the_iteration(engine: str) -> None:
    results = treadle.map(work.fail_on_three, range(10), engine=engine)
    got = []
    with pytest.raises(ValueError) as caught:
        got.extend(results)
    assert got == [0, 1, 2]
    info = treadle.failure(caught.value)
    assert info is not None and (info.item, info.index, info.attempts) == (3, 3, 1)
    assert "fail_at" in info.traceback and any("item 3 = 3" in note for note in caught.value.__notes__)
    with pytest.raises(StopIteration):
        next(results)


def test_return_goes_on(engine: str) -> None:
    got = list(treadle.map(work.fail_on_three, range(6), engine=engine, on_error="return"))
    error = got.pop(3)
    assert got == [0, 1, 2, 4, 5]
    assert type(error) is ValueError and error.args == ("bad item", 3)
    info = treadle.failure(error)
    assert info is not None and info.item == 3 and info.index == 3


def test_skip_goes_on(engine: str) -> None:
    assert list(treadle.map(work.fail_on_three, range(6), engine=engine, on_error="skip")) == [0, 1, 2, 4, 5]
    assert list(treadle.map(work.fail, range(50), engine=engine, on_error="skip")) == []


def test_unordered_errors(engine: str) -> None:
    got = list(treadle.map(work.fail_on_three, range(50), engine=engine, on_error="return", ordered=False))
    errors = [e for e in got if isinstance(e, ValueError)]
    assert len(errors) == 1 and len(got) == 50
    info = treadle.failure(errors[0])
    assert info is not None and info.index == 3


def test_outcomes_tell_returned_exceptions_from_raised_ones(engine: str) -> None:
    with treadle.Pool(2, engine=engine) as pool:  # type: ignore[arg-type]
        outcomes = list(pool.map(work.echo, [ValueError("a value")]).outcomes())
        assert outcomes[0].ok and isinstance(outcomes[0].value[0][0], ValueError)
        outcomes = list(pool.map(work.fail_on_three, range(5)).outcomes())
    assert [(o.index, o.item, o.ok) for o in outcomes] == [(i, i, i != 3) for i in range(5)]
    assert isinstance(outcomes[3].error, ValueError)


def test_item_of_several_iterables(engine: str) -> None:
    (error,) = treadle.map(work.fail_at, [3], [3], engine=engine, on_error="return")
    info = treadle.failure(error)
    assert info is not None and info.item == (3, 3)


def stop(x: int) -> int:
    if x == 2:
        raise StopIteration(x)
    return x


def test_stop_iteration_of_a_task_does_not_end_the_results(engine: str) -> None:
    got = []
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        got.extend(treadle.map(stop, range(5), engine=engine))
    assert got == [0, 1]
    info = treadle.failure(caught.value)
    assert info is not None and info.item == 2
    kept = list(treadle.map(stop, range(5), engine=engine, on_error="return"))
    assert kept[:2] + kept[3:] == [0, 1, 3, 4] and isinstance(kept[2], StopIteration)


@pytest.mark.needs("timeout")
def test_retries_and_timeout_of_a_map(engine: str, tmp_path: Path) -> None:
    results = treadle.map(work.fail_times, [str(tmp_path / "calls")], [2], engine=engine, retries=2, timeout=20)
    assert list(results) == [3]
    (error,) = treadle.map(work.fail_times, [str(tmp_path / "more")], [9], engine=engine, retries=2, on_error="return")
    info = treadle.failure(error)
    assert info is not None and info.attempts == 3 and len(work.lines(tmp_path / "more")) == 3


@pytest.mark.needs("timeout")
def test_timeout_of_one_item(engine: str, tmp_path: Path) -> None:
    gates = [str(tmp_path), str(tmp_path / "go"), str(tmp_path)]
    list(treadle.map(work.after, [str(tmp_path)] * 8, range(8), engine=engine, workers=2))  # so that workers are there
    begin = time.monotonic()
    got = list(treadle.map(work.after, gates, "abc", engine=engine, workers=2, timeout=0.4, on_error="return"))
    assert time.monotonic() - begin < 3
    work.touch(tmp_path / "go")  # so that an abandoned thread ends
    assert [got[0], got[2]] == ["a", "c"]
    assert isinstance(got[1], treadle.TaskTimeout) and isinstance(got[1], TimeoutError)
    assert got[1].timeout == 0.4
    info = treadle.failure(got[1])
    assert info is not None and info.index == 1


# -- leaving early


_others: set[int] = set()  # processes that a test found there already: the standard library's servers stay


@pytest.fixture(autouse=True)
def _only_mine() -> None:
    _others.update(_workers())


def _workers() -> set[int]:
    from treadle.pool.launch.client import program

    return {pid for pid, _ in descendants(os.getpid()) if pid != program.pid and pid not in _others}


def _ends(deadline: float = 2.0) -> bool:
    until = time.monotonic() + deadline
    while _workers():
        if time.monotonic() > until:
            return False
        gc.collect()
        time.sleep(0.005)
    return True


def test_close_ends_the_workers(engine: str, tmp_path: Path) -> None:
    results = treadle.map(work.after, [str(tmp_path)] + [str(tmp_path / "never")] * 9, range(10), engine=engine)
    assert next(results) == 0
    begin = time.monotonic()
    results.close()
    results.close()
    assert time.monotonic() - begin < 0.5
    assert _ends()
    work.touch(tmp_path / "never")
    assert list(results) == []


def test_dropping_the_iterator_ends_the_workers(engine: str, tmp_path: Path) -> None:
    results = treadle.map(work.after, [str(tmp_path)] + [str(tmp_path / "never")] * 9, range(10), engine=engine)
    for result in results:
        assert result == 0
        break
    del results
    assert _ends()
    work.touch(tmp_path / "never")


def test_an_error_ends_the_workers(tmp_path: Path) -> None:
    gates = [str(tmp_path), str(tmp_path / "never"), str(tmp_path / "never")]
    with pytest.raises(TypeError):
        list(treadle.map(work.after, gates, engine="processes", workers=3))  # an argument is missing
    assert _ends()


@pytest.mark.needs("background")
def test_leaving_a_map_on_a_pool_cancels_what_is_unread(pools: MakeExecutor, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with pools(1) as pool:
        with pool.map(work.gate, [str(tmp_path / "s")] + [log] * 20, [str(tmp_path / "go")] * 21, buffer=21) as results:
            reader = threading.Thread(target=lambda: list(results))
            reader.start()
            work.until(tmp_path / "s")
            results.close()
        assert pool.stats().queued == 0 and pool.stats().cancelled >= 12
        work.touch(tmp_path / "go")
        reader.join(10)
        assert not reader.is_alive(), "who waited for it is woken"
        assert pool.submit(work.square, 3).result(10) == 9


def test_shutdown_in_the_middle_of_a_map(pools: MakeExecutor) -> None:
    pool = pools(1)
    results = pool.map(work.square, range(100), buffer=4)
    assert next(results) == 0
    pool.shutdown(wait=False)
    with pytest.raises(treadle.PoolClosed):
        list(results)
    begin = time.monotonic()
    pool.shutdown()
    assert time.monotonic() - begin < 5


def test_a_generator_that_maps_may_be_dropped(engine: str) -> None:
    def squares() -> Iterator[int]:
        yield from treadle.map(work.square, itertools.count(), engine=engine, workers=2)

    generator = squares()
    assert list(itertools.islice(generator, 5)) == [0, 1, 4, 9, 16]
    generator.close()
    del generator
    assert _ends()


@pytest.mark.parametrize("buffer", [1, 3, None])
@pytest.mark.parametrize("ordered", [True, False])
def test_prefetch_loses_and_repeats_nothing(ordered: bool, buffer: int | None) -> None:
    """The source's thread and the reader meet at the window, thousands of times."""
    for count in (0, 1, 2, 5000):
        results = treadle.map(
            abs, iter(range(count)), engine="threads", workers=3, ordered=ordered, buffer=buffer, prefetch=True
        )
        assert sorted(results) == list(range(count))


@pytest.mark.parametrize("held", ["in the source", "in the submit"])
def test_what_prefetch_has_in_hand_when_the_map_is_closed_does_not_run(
    held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    there, gate = threading.Event(), threading.Event()

    def hold(where: str) -> None:
        if held == where:
            there.set()
            assert gate.wait(20)

    def source() -> Iterator[int]:
        yield 0
        hold("in the source")
        yield 1

    def submit(self: Driver, tasks: list[Task]) -> bool:
        if tasks[0].index == 1:
            hold("in the submit")
        return taken(self, tasks)

    taken = Driver.submit
    with treadle.Pool(1, "threads") as pool:
        monkeypatch.setattr(Driver, "submit", submit)
        results = pool.map(ran.append, source(), prefetch=True)
        assert next(results) is None and there.wait(20)
        results.close()
        gate.set()
        assert results._thread is not None
        results._thread.join(20)
        assert pool.submit(abs, -2).result() == 2
        stats = pool.stats()
    assert ran == [0] and (stats.done, stats.queued) == (2, 0)
