"""multiprocessing.Pool and ThreadPool: the standard library's contract on both, and what ours adds."""

from __future__ import annotations

import gc
import multiprocessing as stdlib
import multiprocessing.dummy
import multiprocessing.pool
import operator
import os
import pickle
import threading
import time
from concurrent.futures import CancelledError

import pool_face_work as work
import pytest

import treadle
from treadle import multiprocessing as ours
from treadle.errors import WorkerDied
from treadle.multiprocessing import dummy as our_dummy
from treadle.multiprocessing import pool as our_pool

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
SECONDS = 30

OURS = {
    "processes": lambda *args, **kwds: ours.get_context("forkserver").Pool(*args, **kwds),
    "threads": our_pool.ThreadPool,
}
THEIRS = {
    "stdlib-processes": lambda *args, **kwds: stdlib.get_context("fork").Pool(*args, **kwds),
    "stdlib-threads": stdlib.pool.ThreadPool,
}


def _make(makers, name):
    made = []

    def make(*args, **kwds):
        made.append(makers[name](*args, **kwds))
        return made[-1]

    make.processes = "processes" in name
    yield make
    while made:  # pytest keeps `make` for a while, and it would keep the pools
        pool = made.pop()
        pool.terminate()
        pool.join()
        del pool


@pytest.fixture(params=[*OURS, *THEIRS])
def make(request):
    yield from _make({**OURS, **THEIRS}, request.param)


@pytest.fixture(params=list(OURS))
def mine(request):
    yield from _make(OURS, request.param)


def all_of(iterator):
    """What an `imap` gives, exceptions and all."""
    found = []
    while True:
        try:
            found.append(iterator.next(SECONDS))
        except StopIteration:
            return found
        except Exception as error:
            found.append(repr(error))


# -- the contract -----------------------------------------------------------------------------------------------------


def test_calls(make) -> None:
    pool = make(2)
    assert pool.apply(work.add, (1,), {"y": 2}) == 3
    assert pool.apply_async(work.square, [4]).get(SECONDS) == 16
    assert pool.map(work.square, range(100)) == [x * x for x in range(100)]
    assert pool.map(work.square, (x for x in range(10)), chunksize=3) == [x * x for x in range(10)]
    assert pool.starmap(work.add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap_async(work.add, zip(range(50), range(50), strict=True)).get(SECONDS)[-1] == 98
    assert pool.map_async(work.square, []).get(SECONDS) == []
    assert list(pool.imap(work.square, range(20))) == [x * x for x in range(20)]
    assert list(pool.imap(work.square, range(20), 7)) == [x * x for x in range(20)]
    assert sorted(pool.imap_unordered(work.square, range(20), chunksize=3)) == [x * x for x in range(20)]
    assert list(pool.imap(work.square, [])) == []
    with pytest.raises(ValueError):
        pool.imap(work.square, [1], 0)
    pool.close()
    pool.join()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_contexts(method) -> None:
    with ours.get_context(method).Pool(2) as pool:
        assert pool.map(work.square, range(10)) == [x * x for x in range(10)]
        assert pool.apply(lambda x: x + 1, (1,)) == 2
    with our_pool.Pool(1, context=stdlib.get_context(method)) as pool:
        assert pool.apply(os.getpid) != os.getpid()


def test_async_results(make, tmp_path) -> None:
    pool = make(1)
    result = pool.apply_async(work.gate, (str(tmp_path / "started"), str(tmp_path / "go")))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(stdlib.TimeoutError):
        result.get(0.01)
    assert result.wait(0.01) is None
    (tmp_path / "go").touch()
    result.wait()
    assert result.ready() and result.successful() and result.get() == "through"
    failed = pool.apply_async(work.fail, ("no",))
    failed.wait(SECONDS)
    assert failed.ready() and not failed.successful()
    with pytest.raises(ValueError, match="no"):
        failed.get()


def test_callbacks_come_before_the_result(make) -> None:
    pool = make(2)
    good, bad = [], []
    assert pool.apply_async(work.square, (3,), callback=good.append, error_callback=bad.append).get(SECONDS) == 9
    assert (good, bad) == ([9], [])
    with pytest.raises(ValueError):
        pool.apply_async(work.fail, (1,), {}, good.append, bad.append).get(SECONDS)
    assert good == [9] and len(bad) == 1 and isinstance(bad[0], ValueError)
    assert pool.map_async(work.square, [1, 2], callback=good.append).get(SECONDS) == [1, 4]
    assert good == [9, [1, 4]]
    pool.map_async(work.fail, [1], callback=good.append, error_callback=bad.append).wait(SECONDS)
    assert len(good) == 2 and len(bad) == 2


def test_callbacks_are_called_one_at_a_time(make) -> None:
    """Programs count, append and draw in them without a lock."""
    pool = make(4)
    inside, together, values = [], [], []

    def callback(value):
        inside.append(value)
        time.sleep(0.002)  # it is the time that others would have to come in, not a wait for something
        together.append(len(inside))
        inside.pop()
        values.append(value)

    results = [pool.apply_async(work.square, (i,), callback=callback) for i in range(40)]
    results += [pool.map_async(work.square, [i], callback=callback) for i in range(10)]
    for result in results:
        result.wait(SECONDS)
    assert len(values) == 50 and set(together) == {1}


def test_imap_goes_on_after_a_failure(make) -> None:
    pool = make(2)
    want = [0, 1, 2, 3, 4, "ValueError(5)", 6, 7]
    assert all_of(pool.imap(work.fail_on_five, range(8))) == want
    assert sorted(map(str, all_of(pool.imap_unordered(work.fail_on_five, range(8))))) == sorted(map(str, want))


def test_a_broken_source(make) -> None:
    pool = make(2)
    with pytest.raises(KeyError, match="source"):
        pool.map(work.square, work.broken_source(3))
    assert all_of(pool.imap(work.square, work.broken_source(3))) == [0, 1, 4, "KeyError('source')"]
    assert len(all_of(pool.imap_unordered(work.square, work.broken_source(3)))) == 4


def test_imap_with_a_time_limit(make, tmp_path) -> None:
    pool = make(1)
    iterator = pool.imap(work.until_and_back, [str(tmp_path / "go")])
    with pytest.raises(stdlib.TimeoutError):
        iterator.next(0.01)
    with pytest.raises(stdlib.TimeoutError):
        iterator.next(timeout=0)
    (tmp_path / "go").touch()
    assert iterator.next(SECONDS) == "back"
    with pytest.raises(StopIteration):
        iterator.next(SECONDS)


def test_imap_gives_what_there_is_while_its_source_waits(make, tmp_path) -> None:
    pool = make(1)
    iterator = pool.imap(work.square, work.slow_source(str(tmp_path / "go")))
    assert iterator.next(SECONDS) == 1
    (tmp_path / "go").touch()
    assert iterator.next(SECONDS) == 4


def test_imap_runs_without_a_reader(make, tmp_path) -> None:
    pool = make(2)
    paths = [str(tmp_path / str(i)) for i in range(300)]
    iterator = pool.imap_unordered(work.mark, paths)
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 300
    assert sorted(iterator) == sorted(paths)


def test_states(make) -> None:
    pool = make(2)
    assert "state=RUN" in repr(pool) and "pool_size=2" in repr(pool)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.apply_async(work.square, (2,))
    pool.close()
    pool.close()
    pool.join()
    assert result.get() == 4
    for call in (
        lambda: pool.apply(work.square, (1,)),
        lambda: pool.apply_async(work.square, (1,)),
        lambda: pool.map(work.square, [1]),
        lambda: pool.map_async(work.square, [1]),
        lambda: pool.starmap(work.add, [(1, 2)]),
        lambda: pool.imap(work.square, [1]),
        lambda: pool.imap_unordered(work.square, [1]),
        pool.__enter__,
    ):
        with pytest.raises(ValueError, match="not running"):
            call()
    pool.terminate()
    pool.join()
    assert "state=TERMINATE" in repr(pool)
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


@pytest.mark.parametrize("number", [0, -1])
def test_bad_arguments(make, number) -> None:
    with pytest.raises(ValueError):
        make(number)
    with pytest.raises(TypeError):
        make(1, initializer=1)
    if make.processes:
        with pytest.raises(ValueError):
            make(1, maxtasksperchild=number)


def test_initializer(make) -> None:
    pool = make(1, work.begin, ("a", 2))
    assert pool.apply(work.began)[-1] == ("a", 2)


def test_terminate_ends_what_runs(make, tmp_path) -> None:
    if not make.processes:
        pytest.skip("a thread can't be ended")
    pool = make(1)
    pool.apply_async(work.gate, (str(tmp_path / "started"), str(tmp_path / "never")))
    while not (tmp_path / "started").exists():
        time.sleep(0.002)
    start = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - start < 5


def test_the_dummy_module() -> None:
    for module, kind in ((our_dummy, our_pool.ThreadPool), (stdlib.dummy, stdlib.pool.ThreadPool)):
        with module.Pool(2) as pool:
            assert type(pool) is kind
            assert pool.map(operator.neg, [1, 2]) == [-1, -2]


def test_names() -> None:
    for name in ("Pool", "ThreadPool", "AsyncResult", "ApplyResult", "MapResult", "IMapIterator", "MaybeEncodingError"):
        assert getattr(our_pool, name).__module__.startswith("treadle"), name
        assert hasattr(stdlib.pool, name)
    assert our_pool.mapstar is stdlib.pool.mapstar  # the rest is there as well
    assert issubclass(our_pool.MapResult, our_pool.AsyncResult)


# -- ours -------------------------------------------------------------------------------------------------------------


def test_leaving_the_block_finishes_the_work(mine, tmp_path) -> None:
    with mine(2) as pool:
        results = [pool.apply_async(work.square, (i,)) for i in range(50)]
        mapped = pool.map_async(work.square, range(5000))
        pool.imap_unordered(work.mark, [str(tmp_path / str(i)) for i in range(400)])
    assert [each.get(0) for each in results] == [i * i for i in range(50)]
    assert mapped.get(0)[-1] == 4999**2
    assert len(list(tmp_path.iterdir())) == 400


def test_an_exception_in_the_block_ends_it(mine, tmp_path) -> None:
    with pytest.raises(KeyError), mine(1) as pool:
        running = pool.apply_async(work.gate, (str(tmp_path / "started"), str(tmp_path / "go")))
        waiting = pool.apply_async(work.square, (1,))
        mapped = pool.map_async(work.square, range(10))
        iterator = pool.imap(work.square, range(10))
        raise KeyError
    (tmp_path / "go").touch()  # a thread can't be killed
    for result in (running, waiting, mapped):
        with pytest.raises(CancelledError):
            result.get(SECONDS)
    with pytest.raises(CancelledError):
        iterator.next(SECONDS)


def test_leaving_the_block_while_reading(mine) -> None:
    """An endless input is not taken to its end, and nobody is told that it has ended."""
    with mine(2) as pool:
        iterator = pool.imap(work.square, work.forever())
        assert next(iterator) == 0
    found = []
    with pytest.raises(CancelledError):
        while True:
            found.append(iterator.next(SECONDS))
    assert found == [x * x for x in range(1, len(found) + 1)]


def test_breaking_out_of_an_imap_ends_it(mine) -> None:
    with mine(2) as pool:
        for value in pool.imap_unordered(work.square, work.forever()):
            if value > 100:
                break


def test_a_killed_worker_costs_its_call(tmp_path) -> None:
    with ours.Pool(2) as pool:
        others = [pool.apply_async(work.square, (i,)) for i in range(100)]
        start = time.monotonic()
        bad = pool.apply_async(work.die)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            bad.get(SECONDS)
        assert time.monotonic() - start < 1 + SECONDS * (os.cpu_count() == 1)
        assert [each.get(SECONDS) for each in others] == [i * i for i in range(100)]
        with pytest.raises(WorkerDied):
            pool.map(work.die_on_five, range(50))
        found = all_of(pool.imap(work.die_on_five, range(10)))
        assert found[:5] + found[6:] == [0, 1, 2, 3, 4, 6, 7, 8, 9] and "WorkerDied" in found[5]
        assert pool.map(work.square, [1, 2, 3]) == [1, 4, 9]


def test_map_tries_all_items_and_names_the_one_that_failed(mine, tmp_path) -> None:
    pool = mine(2)
    for map in (pool.map, pool.imap):
        with pytest.raises(ValueError) as caught:
            list(map(work.fail_on_five, range(1000)))
        assert caught.value.task.item == 5 and caught.value.task.index == 5
    bad = []
    paths = [str(tmp_path / str(i)) for i in range(100)]
    (tmp_path / "7").touch()
    pool.map_async(work.mark, paths, error_callback=bad.append).wait(SECONDS)
    assert len(list(tmp_path.iterdir())) == 100
    assert isinstance(bad[0], FileExistsError) and bad[0].task.index == 7
    with pytest.raises(RuntimeError, match="StopIteration"):
        pool.map(work.stop_iteration, range(10))


def test_what_can_not_be_pickled() -> None:
    with ours.Pool(1) as pool:
        for call in (
            lambda: pool.apply(work.square, (work.NoPickle(),)),
            lambda: pool.map(work.square, [1, work.NoPickle(), 2]),
            lambda: list(pool.imap(work.square, [work.NoPickle()])),
        ):
            with pytest.raises(RuntimeError, match="cannot pickle") as caught:
                call()
            assert "argument" in caught.value.__notes__[-1]
        for call in (
            lambda: pool.apply(work.lock),
            lambda: pool.map(work.lock, [1]),
            lambda: list(pool.imap(work.lock, [1])),
        ):
            with pytest.raises(stdlib.pool.MaybeEncodingError) as caught:
                call()
            assert "lock" in caught.value.value and "TypeError" in caught.value.exc
            assert isinstance(caught.value, treadle.errors.ResultNotPicklable)
            assert repr(pickle.loads(pickle.dumps(caught.value))) == repr(caught.value)
        assert pool.apply(pool.apply_async(lambda: lambda: 42).get()) == 42
        assert pool.apply(work.square, (3,)) == 9


def test_a_callback_that_raises_is_reported(mine, caplog) -> None:
    pool = mine(1)

    def broken(value):
        raise KeyError("in the callback")

    assert pool.apply_async(work.square, (3,), callback=broken).get(SECONDS) == 9
    assert pool.map_async(work.square, [3], callback=broken).get(SECONDS) == [9]
    assert [record.exc_info[0] for record in caplog.records] == [KeyError, KeyError] and "broken" in caplog.text
    assert pool.apply(work.square, (4,)) == 16


def test_a_callback_may_submit(mine) -> None:
    pool = mine(1)
    second = []
    done = threading.Event()

    def again(value):
        second.append(pool.apply_async(work.square, (value,), callback=lambda value: done.set()))

    pool.apply_async(work.square, (3,), callback=again)
    assert done.wait(SECONDS)
    assert second[0].get(SECONDS) == 81


def test_a_callback_that_would_wait_for_itself_is_told(mine, caplog) -> None:
    """The standard library's pool hangs."""
    pool = mine(2)
    never = []

    def waits(value):
        pool.apply_async(work.square, (value,), callback=never.append).get()

    assert pool.apply_async(work.square, (3,), callback=waits).get(SECONDS) == 9
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError] and "callback" in caplog.text
    assert pool.apply_async(work.square, (4,), callback=never.append).get(SECONDS) == 16
    assert never == [81, 16]


def test_a_pool_that_is_dropped_finishes_its_work(mine, tmp_path) -> None:
    pool = OURS["processes" if mine.processes else "threads"](2)
    result = pool.map_async(work.square, range(2000))
    iterator = pool.imap(work.square, iter(range(2000)))
    del pool
    gc.collect()
    assert result.get(SECONDS)[-1] == 1999**2
    assert sum(1 for _ in iterator) == 2000


def test_long_calls_at_the_end_are_shared(mine) -> None:
    """Chunks are for short calls: whoever meets long ones gives the rest of his chunk back."""
    pool = mine(2)
    pids = pool.map(work.slow_at_the_end, range(2000))
    assert len(set(pids[-4:])) == 2 or not mine.processes


def test_a_chunk_of_large_items_is_short(mine) -> None:
    pool = mine(2)
    items = [bytes(1 << 18)] * 64
    assert pool.map(len, items) == [1 << 18] * 64
    assert pool.map(bytes, [1 << 18] * 64) == items


def test_workers_as_the_standard_library_shows_them() -> None:
    with ours.Pool(3) as pool:
        assert len(pool._pool) == 3
        pids = {worker.pid for worker in pool._pool}
        assert len(pids) == 3 and all(worker.is_alive() for worker in pool._pool)
        victim = pool._pool[0]
        victim.terminate()
        while victim.is_alive():
            time.sleep(0.002)
        assert pool.apply(work.square, (2,)) == 4
