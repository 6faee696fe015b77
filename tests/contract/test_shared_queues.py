"""What queues between processes promise: treadle's, and the standard library's where it can."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, Full
from typing import Any

import pytest
import queue_work as work

from treadle.queues import shared

FORK = multiprocessing.get_context("fork")
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(params=[pytest.param(shared, id="treadle"), pytest.param(FORK, id="stdlib")])
def queues(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def make(queues: Any) -> Iterator[Callable[..., Any]]:
    """Makes queues, and lets the standard library's feeder threads go."""
    made: list[Any] = []

    def make_one(kind: str = "Queue", *args: Any) -> Any:
        made.append(getattr(queues, kind)(*args))
        return made[-1]

    yield make_one
    for q in made:
        q.close()
        if hasattr(q, "cancel_join_thread"):
            q.cancel_join_thread()
            with contextlib.suppress(AssertionError):
                q.join_thread()
    made.clear()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Exceptions that a test has caught hold its queues in a cycle."""
    yield
    gc.collect()


@contextlib.contextmanager
def running(target: Callable[..., None], *args: Any, count: int = 1) -> Iterator[None]:
    """Processes that must end by themselves, and well."""
    processes = [FORK.Process(target=target, args=args, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join()


VALUES = [
    None, True, False, 0, -1, 127, -128, 128, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**64, 10**100, 1.5,
    float("inf"),
    "", "a", "abc", "é", "€", "𝄞", "a" * 300, "é" * 300, "€" * 5000, "𝄞" * 9000, "x" * 100_000, "é" * 100_000,
    b"", b"a", b"x" * 300, b"x" * 16384, b"x" * 16385, b"x" * 1_000_000, bytearray(b"abc"), bytearray(100_000),
    (), (1,), [], [1, [2, (3, {"a": None})]], {}, {"a": 1, 2: "b", (1, 2): [None]}, {1, 2}, frozenset("ab"), 1j,
    [0] * 5000, {str(i): i for i in range(2000)}, ("\ud800",), ["x" * 5000], range(5), ..., int, work.Plain([1]),
]  # fmt: skip


def test_values_arrive_as_they_were(make: Callable[..., Any]) -> None:
    there, back = make(), make("SimpleQueue")
    with running(work.answer, there, back):
        for value in VALUES:
            there.put(value)
            got = back.get()
            assert got == value
            assert type(got) is type(value)
        there.put("the end")


def test_sharing_within_a_value_is_kept(make: Callable[..., Any]) -> None:
    q = make()
    inner: list[Any] = []
    for value in ([inner, inner], {"a": inner, "b": (inner,)}):
        q.put(value)
        got = q.get()
        first, second = got if isinstance(got, list) else (got["a"], got["b"][0])
        assert first is second
    inner.append(inner)
    q.put(inner)
    got = q.get()
    assert got[0] is got
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    q.put(deep)
    assert q.get() == deep


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_each_item_arrives_once_and_in_order(make: Callable[..., Any], kind: str) -> None:
    q, count = make(kind), 1500
    producers = [FORK.Process(target=work.put_numbered, args=(q, which, count), daemon=True) for which in range(3)]
    for process in producers:
        process.start()
    got = [q.get() for _ in range(3 * count)]
    for process in producers:
        process.join()
    assert sorted(got) == [(which, i) for which in range(3) for i in range(count)]
    for which in range(3):
        mine = [i for producer, i in got if producer == which]
        assert mine == sorted(mine)


def test_several_consumers(make: Callable[..., Any]) -> None:
    q, back, count = make(), make(), 800
    with running(work.get_and_return, q, back, count, count=3):
        work.put_all(q, range(3 * count))
        assert sorted(back.get() for _ in range(3 * count)) == list(range(3 * count))


def test_bounded(make: Callable[..., Any]) -> None:
    q = make("Queue", 2)
    q.put(1)
    q.put(2)
    for call in (lambda: q.put(3, False), lambda: q.put_nowait(3), lambda: q.put(3, block=True, timeout=0.01)):
        with pytest.raises(Full):
            call()
    assert q.full()
    begin = time.monotonic()
    with pytest.raises(Full):
        q.put(3, timeout=0.15)
    assert 0.14 <= time.monotonic() - begin < 5
    assert q.get() == 1
    q.put(3, timeout=5)
    assert [q.get(), q.get()] == [2, 3]


def test_put_waits_for_room(make: Callable[..., Any]) -> None:
    q = make("Queue", 3)
    with running(work.put_all, q, range(300)):
        assert [q.get() for _ in range(300)] == list(range(300))


def test_empty(make: Callable[..., Any]) -> None:
    q = make()
    assert q.empty()
    for call in (q.get_nowait, lambda: q.get(False), lambda: q.get(True, 0.01), lambda: q.get(timeout=0)):
        with pytest.raises(Empty):
            call()
    begin = time.monotonic()
    with pytest.raises(Empty):
        q.get(timeout=0.15)
    assert 0.14 <= time.monotonic() - begin < 5


def test_threads_of_one_process(make: Callable[..., Any]) -> None:
    q, got = make("Queue", 5), []

    def consume() -> None:
        got.extend(q.get() for _ in range(400))

    threads = [threading.Thread(target=consume) for _ in range(3)]
    threads += [threading.Thread(target=work.put_all, args=(q, range(400))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(got) == sorted([*range(400)] * 3)


def test_task_done_and_join(make: Callable[..., Any]) -> None:
    q, back = make("JoinableQueue"), make()
    with running(work.work_and_count, q, back, count=2):
        work.put_all(q, [1] * 30)
        q.join()
        assert sum(back.get(timeout=5) for _ in range(30)) == 30
        work.put_all(q, [None] * 2)
        q.join()
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_closed(make: Callable[..., Any], kind: str) -> None:
    q = make(kind)
    q.close()
    for call in (lambda: q.put(1), q.get, lambda: q.put(1, False), lambda: q.get(False)):
        with pytest.raises(ValueError, match="is closed"):
            call()


def test_close_is_for_this_object_only(make: Callable[..., Any]) -> None:
    q, back = make(), make()
    process = FORK.Process(target=work.get_and_return, args=(q, back, 1), daemon=True)
    process.start()
    q.put("seen")
    q.close()
    assert back.get(timeout=10) == "seen"
    process.join()


def test_put_then_exit_loses_nothing(make: Callable[..., Any]) -> None:
    q = make()
    process = FORK.Process(target=work.put_all, args=(q, [b"x" * 3000] * 400), daemon=True)
    process.start()
    if isinstance(q, shared.Queue):  # the standard library's must be drained first
        process.join(30)
        assert process.exitcode == 0
        assert q.qsize() == 400
    assert [len(q.get(timeout=5)) for _ in range(400)] == [3000] * 400
    process.join(30)


# -- what only treadle's promise -------------------------------------------------------------------------------------


def test_put_then_die_loses_nothing() -> None:
    q: shared.Queue[Any] = shared.Queue()
    for item in ("small", b"x" * 1_000_000):
        process = FORK.Process(target=work.put_and_die, args=(q, item))
        process.start()
        process.join()
        assert q.get(timeout=5) == item


def test_pickling_errors_are_raised_at_the_call() -> None:
    q: shared.Queue[Any] = shared.Queue(2)
    for bad in (work.Stubborn(), [work.Stubborn()]):
        with pytest.raises(ZeroDivisionError):
            q.put(bad)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        q.put(lambda: 0)
    q.put(1)
    assert (q.qsize(), q.get()) == (1, 1)


def test_what_is_put_is_pickled_at_once() -> None:
    q: shared.Queue[Any] = shared.Queue()
    value = [1]
    q.put(value)
    value.append(2)
    assert not q.empty()
    assert q.get_nowait() == [1]


def test_an_item_that_cannot_be_unpickled_spoils_only_itself() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put(work.Poison())
    q.put("next")
    with pytest.raises(LookupError, match="not here"):
        q.get()
    assert q.get() == "next"


def test_qsize_and_full() -> None:
    q: shared.Queue[Any] = shared.Queue(3)
    sizes = []
    for i in range(3):
        sizes.append((q.qsize(), q.full()))
        q.put(i)
    assert [*sizes, (q.qsize(), q.full())] == [(0, False), (1, False), (2, False), (3, True)]
    assert q.maxsize == 3


def test_it_travels_at_any_time_and_from_child_to_child() -> None:
    carrier: shared.Queue[Any] = shared.Queue()
    q: shared.Queue[Any] = shared.Queue()
    first = FORK.Process(target=work.send_on, args=(q, carrier))
    first.start()
    second = FORK.Process(target=work.receive_and_put, args=(carrier, "hello"))
    second.start()
    assert q.get(timeout=20) == "hello"
    first.join()
    second.join()


def test_it_is_kept_alive_while_under_way() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put("inside")
    message = pickle.dumps(q)
    del q
    again = pickle.loads(message)
    assert again.get(timeout=5) == "inside"
    other = pickle.loads(pickle.dumps(again))
    other.put(1)
    assert again.get(timeout=5) == 1


def test_who_comes_too_late_is_told() -> None:
    q: shared.Queue[Any] = shared.Queue()
    message = pickle.dumps(q)
    pickle.loads(message)  # it has arrived
    del q
    with pytest.raises(FileNotFoundError, match="gone"):
        pickle.loads(message)


def test_shutdown() -> None:
    q: shared.Queue[Any] = shared.Queue()
    work.put_all(q, [1, 2])
    q.shutdown()
    assert q.is_shutdown
    with pytest.raises(shared.ShutDown):
        q.put(3)
    assert [q.get(), q.get()] == [1, 2]
    for call in (q.get, q.get_nowait):
        with pytest.raises(shared.ShutDown):
            call()


def test_shutdown_immediate_drops_what_is_left() -> None:
    q: shared.JoinableQueue[Any] = shared.JoinableQueue()
    work.put_all(q, [1, b"x" * 100_000, 3])
    assert q.get() == 1
    q.shutdown(immediate=True)
    with pytest.raises(shared.ShutDown):
        q.get()
    assert q.qsize() == 0
    q.task_done()
    q.join()
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()


def test_shutdown_wakes_all() -> None:
    getting: shared.Queue[Any] = shared.Queue()
    putting: shared.Queue[Any] = shared.Queue(1)
    putting.put(0)
    ended = []

    def attempt(call: Callable[[], object]) -> None:
        with contextlib.suppress(shared.ShutDown):
            call()
            return
        ended.append(1)

    threads = [threading.Thread(target=attempt, args=(getting.get,)) for _ in range(2)]
    threads += [threading.Thread(target=attempt, args=(lambda: putting.put(1),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)  # so that most of them wait; the test holds whether they do or not
    getting.shutdown()
    putting.shutdown()
    for thread in threads:
        thread.join(10)
    assert ended == [1] * 4


def test_many_at_once() -> None:
    q: shared.Queue[Any] = shared.Queue(10)
    q.put_many(range(8))
    assert q.get_many(5) == [0, 1, 2, 3, 4]
    assert q.get_many(50) == [5, 6, 7]
    with pytest.raises(Full) as full:
        q.put_many(range(15), timeout=0.02)
    assert full.value.rest == [10, 11, 12, 13, 14]  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError) as error:
        shared.Queue[Any]().put_many([1, work.Stubborn(), 3])
    assert len(error.value.rest) == 2  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        q.get_many(0)
    q.shutdown(immediate=True)
    q = shared.Queue()
    q.put_many([1, 2, work.Poison(), 4])
    with pytest.raises(LookupError) as spoiled:
        q.get_many(4)
    assert spoiled.value.items == [1, 2]  # type: ignore[attr-defined]
    assert q.get_many(4) == [4]


def test_iteration_ends_with_shutdown() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put_many("abc")
    q.shutdown()
    assert list(q) == ["a", "b", "c"]


def test_buffers_go_out_of_band() -> None:
    numpy = pytest.importorskip("numpy")
    q: shared.Queue[Any] = shared.Queue()
    for shape in [(5,), (300, 300), (1000, 1000)]:
        array = numpy.arange(numpy.prod(shape), dtype="f8").reshape(shape)
        q.put({"a": array, "b": [array[::2], array.T]})
        got = q.get()
        assert (got["a"] == array).all()
        assert (got["b"][0] == array[::2]).all()
        assert (got["b"][1] == array.T).all()
        got["a"][0] = 7  # writable, and our own
        assert array.flat[0] == 0


def test_the_largest_items() -> None:
    q: shared.Queue[Any] = shared.Queue()
    array = bytearray(120_000_000)
    array[-1] = 5
    q.put(pickle.PickleBuffer(array))
    got = memoryview(q.get())
    assert (len(got), got[-1]) == (120_000_000, 5)
    del got
    q.close()
    assert q._insides()["spare"] <= 8 << 20, "the memory is given back"


def test_memory_is_given_back() -> None:
    q: shared.Queue[Any] = shared.Queue()
    item = b"x" * 8000
    for _ in range(2):
        for _ in range(5000):
            q.put(item)
        full = q._insides()["resident"]
        for _ in range(5000):
            assert q.get() == item
        left = q._insides()
        assert full >= 5000 * 8000 // 65536
        assert left["resident"] <= 18
    assert left["chunks"] <= full + 1, "chunks are used again"


# -- with a receipt


def test_take() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put("small")
    q.put(b"x" * 100_000)
    with q.take() as item:
        assert (item.value, item.attempt) == ("small", 1)
        assert q.qsize() == 1
    with q.take(timeout=1) as item:
        assert item.value == b"x" * 100_000
    with pytest.raises(RuntimeError):
        item.value
    with pytest.raises(Empty):
        with q.take(block=False):
            pass
    assert q.empty()
    assert q._insides()["used"] == 0


@pytest.mark.parametrize("value", ["small", b"x" * 100_000])
def test_who_raises_gives_it_back(value: Any) -> None:
    q: shared.Queue[Any] = shared.Queue(max_attempts=3)
    q.put(value)
    q.put("second")
    for attempt in (1, 2):
        with pytest.raises(KeyError):
            with q.take() as item:
                assert (item.value, item.attempt) == (value, attempt)
                raise KeyError
        assert q.qsize() == 2
    with q.take() as item:
        assert (item.value, item.attempt) == (value, 3)
    assert q.get() == "second"
    assert q.dead_letters() == []


def test_dead_letters() -> None:
    q: shared.JoinableQueue[Any] = shared.JoinableQueue(max_attempts=2)
    q.put_many(["poison", b"y" * 50_000, "good"])
    for _ in range(4):
        with contextlib.suppress(KeyError):
            with q.take() as item:
                assert item.value != "good"
                raise KeyError
    with q.take() as item:
        assert item.value == "good"
    q.join()
    assert q.empty()
    assert q.dead_letters() == [("poison", 2), (b"y" * 50_000, 2)]
    assert [letter.value for letter in q.dead_letters(remove=True)] == ["poison", b"y" * 50_000]
    assert q.dead_letters() == []


@pytest.mark.parametrize("value", ["small", b"x" * 100_000])
def test_a_killed_taker_loses_nothing(value: Any) -> None:
    q: shared.Queue[Any] = shared.Queue(max_attempts=None)
    started: shared.Queue[int] = shared.Queue()
    q.put(value)
    for attempt in range(1, 4):
        process = FORK.Process(target=work.take_and_die, args=(q, started))
        process.start()
        assert started.get(timeout=10) == attempt
        process.join()
    begin = time.monotonic()
    with q.take(timeout=5) as item:
        assert (item.value, item.attempt) == (value, 4)
    assert time.monotonic() - begin < 0.5


@pytest.mark.parametrize("how", ["take", "get"])
def test_it_comes_back_to_a_queue_that_never_runs_empty(how: str) -> None:
    q: shared.Queue[Any] = shared.Queue()
    started: shared.Queue[int] = shared.Queue()
    q.put("first")
    process = FORK.Process(target=work.take_and_die, args=(q, started))
    process.start()
    assert started.get(timeout=10) == 1
    process.join()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        q.put_many(["other", "other"])
        if how == "get":
            value = q.get()
        else:
            with q.take() as item:
                value = item.value
        if value == "first":
            return
    pytest.fail(f"it did not come back; there are {q.qsize()} others")


def test_a_waiting_taker_gets_it_from_a_killed_one() -> None:
    q: shared.Queue[Any] = shared.Queue()
    started: shared.Queue[int] = shared.Queue()
    got: list[float] = []

    def wait() -> None:
        with q.take() as item:
            assert item.attempt == 2
            got.append(time.monotonic())

    q.put(1)
    process = FORK.Process(target=work.take_and_die, args=(q, started))
    process.start()
    assert started.get(timeout=10) == 1
    process.join()
    died = time.monotonic()
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(10)
    assert got[0] - died < 0.4


def test_a_forked_child_cannot_finish_its_parents_take() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put(1)

    with q.take() as item:
        process = FORK.Process(target=item.__exit__, args=(None, None, None))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert q._insides()["used"] == 1
    assert q._insides()["used"] == 0


def test_an_item_that_cannot_be_unpickled_becomes_a_dead_letter() -> None:
    q: shared.Queue[Any] = shared.Queue(max_attempts=2)
    q.put(work.Poison())
    for _ in range(2):
        with pytest.raises(LookupError):
            with q.take():
                pass
    assert isinstance(q.dead_letters()[0].value, LookupError)


def test_plain_get_has_what_came_back() -> None:
    q: shared.Queue[Any] = shared.Queue()
    q.put_many([1, 2])
    with pytest.raises(KeyError):
        with q.take():
            raise KeyError
    assert [q.get(), q.get()] == [1, 2]


def test_with_an_event_loop() -> None:
    import asyncio

    q: shared.Queue[Any] = shared.Queue(1)

    async def main() -> list[Any]:
        got = asyncio.ensure_future(q.aget())
        await asyncio.sleep(0.05)
        await q.aput(1)
        first = await asyncio.wait_for(got, 10)
        await q.aput(2)
        waiting = asyncio.ensure_future(q.aput(3))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        second = await q.aget()
        await asyncio.wait_for(waiting, 10)
        cancelled = asyncio.ensure_future(shared.Queue[Any]().aget())
        await asyncio.sleep(0.01)
        cancelled.cancel()
        q.shutdown()
        return [first, second, *[item async for item in q]]

    assert asyncio.run(main()) == [1, 2, 3]


def test_a_fork_keeps_what_was_lent() -> None:
    """A large array that was received is the child's own after a fork, whatever the parent does with its extent."""
    numpy = pytest.importorskip("numpy")
    q: shared.Queue[Any] = shared.Queue()
    go: shared.Queue[Any] = shared.Queue()
    back: shared.Queue[Any] = shared.Queue()
    q.put(numpy.full(200_000, 7.0))
    got = q.get()
    got[0] = 8

    def look(got: Any) -> None:
        go.get(timeout=20)
        back.put((float(got[0]), float(got[1:].min()), float(got.max())))

    process = FORK.Process(target=look, args=(got,))
    process.start()
    got[:] = 1
    del got
    for _ in range(3):
        q.put(numpy.zeros(200_000))
        q.get()
    go.put(1)
    assert back.get(timeout=20) == (8.0, 7.0, 8.0)
    process.join()
    assert q._insides()["used"] == 0


def test_waiting_for_one_of_several() -> None:
    import treadle

    one: shared.Queue[Any] = shared.Queue()
    two: shared.Queue[Any] = shared.Queue()
    assert treadle.wait(one, two, timeout=0.01) == []
    process = FORK.Process(target=work.put_all, args=(two, [1, 2]))
    process.start()
    assert treadle.wait(one, two, timeout=20) == [two]
    process.join()
    assert [two.get(), two.get()] == [1, 2]
    assert treadle.wait(one, two, timeout=0.01) == []
    one.shutdown()
    assert treadle.wait(one, two, timeout=5) == [one]
