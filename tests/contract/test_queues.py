"""What queues promise: treadle's and the standard library's alike."""

from __future__ import annotations

import gc
import threading as plain
import time
import weakref
from collections import Counter
from types import ModuleType

import pytest
from sync_impl import HAS_SHUTDOWN, QUEUE, end, start

pytestmark = [pytest.mark.parametrize("queue", QUEUE), pytest.mark.timeout(60)]
KINDS = ["Queue", "LifoQueue", "PriorityQueue"]


@pytest.mark.parametrize(
    ("kind", "order"),
    [("Queue", [3, 1, 2]), ("LifoQueue", [2, 1, 3]), ("PriorityQueue", [1, 2, 3]), ("SimpleQueue", [3, 1, 2])],
)
def test_order(queue: ModuleType, kind: str, order: list[int]) -> None:
    q = getattr(queue, kind)()
    for item in (3, 1, 2):
        q.put(item)
    assert [q.get() for _ in range(3)] == order
    assert q.empty()


@pytest.mark.parametrize("kind", [*KINDS, "SimpleQueue"])
def test_each_item_arrives_once(queue: ModuleType, kind: str) -> None:
    q, got = getattr(queue, kind)(), []

    def produce(which: int) -> None:
        for i in range(500):
            q.put((which, i))

    def consume() -> None:
        got.extend(q.get() for _ in range(500))

    end(*[start(produce, which) for which in range(4)], *[start(consume) for _ in range(4)])
    assert Counter(got) == Counter((which, i) for which in range(4) for i in range(500))


@pytest.mark.parametrize("kind", KINDS)
def test_bounded(queue: ModuleType, kind: str) -> None:
    q = getattr(queue, kind)(2)
    q.put(1)
    q.put(2)
    assert q.full()
    with pytest.raises(queue.Full):
        q.put(3, block=False)
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    begin = time.monotonic()
    with pytest.raises(queue.Full):
        q.put(3, timeout=0.05)
    assert time.monotonic() - begin >= 0.045
    thread = start(q.put, 3)
    q.get()
    end(thread)
    assert q.qsize() == 2


@pytest.mark.parametrize("kind", [*KINDS, "SimpleQueue"])
def test_empty(queue: ModuleType, kind: str) -> None:
    q = getattr(queue, kind)()
    for call in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0.01), lambda: q.get(True, 0)):
        with pytest.raises(queue.Empty):
            call()
    with pytest.raises(ValueError):
        q.get(timeout=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_join(queue: ModuleType, kind: str) -> None:
    q, done = getattr(queue, kind)(), []

    def work() -> None:
        for _ in range(20):
            q.get()
            done.append(1)
            q.task_done()

    for i in range(40):
        q.put(i)
    threads = [start(work), start(work)]
    q.join()
    assert len(done) == 40
    end(*threads)
    with pytest.raises(ValueError):
        q.task_done()


def test_the_documented_hooks(queue: ModuleType) -> None:
    class Unique(queue.Queue):
        def _init(self, maxsize):
            self.items = {}

        def _qsize(self):
            return len(self.items)

        def _put(self, item):
            self.items[item] = None

        def _get(self):
            return self.items.popitem()[0]

    q = Unique(3)
    for item in (1, 1, 2, 1):
        q.put(item)
    assert q.qsize() == 2
    assert {q.get(), q.get_nowait()} == {1, 2}
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)


def test_a_hook_that_raises_loses_nothing(queue: ModuleType) -> None:
    class Picky(queue.Queue):
        def _put(self, item):
            if item is None:
                raise ValueError("nothing")
            super()._put(item)

    q = Picky()
    with pytest.raises(ValueError):
        q.put(None)
    q.put(1)
    assert (q.get(), q.unfinished_tasks) == (1, 1)


def test_reaching_inside(queue: ModuleType) -> None:
    q = queue.Queue()
    for i in range(5):
        q.put(i)
    with q.mutex:
        q.queue.popleft()
        q.queue.append(9)
    assert [q.get() for _ in range(5)] == [1, 2, 3, 4, 9]
    assert q.unfinished_tasks == 5


def test_reaching_inside_while_others_wait(queue: ModuleType) -> None:
    q, got = queue.Queue(), []
    threads = [start(lambda: got.append(q.get())) for _ in range(3)]
    time.sleep(0.05)  # so that most of them wait; the test holds whether they do or not
    with q.mutex:
        q.queue.append(0)
        q.not_empty.notify()
    q.put(1)
    q.put(2)
    end(*threads)
    assert sorted(got) == [0, 1, 2]


def test_references_are_dropped(queue: ModuleType) -> None:
    class Thing:
        pass

    for kind in ("Queue", "LifoQueue", "SimpleQueue"):
        q, thing = getattr(queue, kind)(), Thing()
        ref = weakref.ref(thing)
        q.put(thing)
        del thing
        assert ref() is not None
        q.get()
        gc.collect()
        assert ref() is None
        cycle = Thing()
        cycle.q, ref = q, weakref.ref(cycle)  # type: ignore[attr-defined]
        q.put(cycle)
        del cycle, q
        gc.collect()
        assert ref() is None, "a queue in a cycle is collected"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown(queue: ModuleType, kind: str, immediate: bool) -> None:
    if queue.__name__ == "queue" and not HAS_SHUTDOWN:
        pytest.skip("this Python's queue has no shutdown()")
    q = getattr(queue, kind)()
    q.put(1)
    q.put(2)
    q.shutdown(immediate)
    with pytest.raises(queue.ShutDown):
        q.put(3)
    if not immediate:
        assert {q.get(), q.get()} == {1, 2}
    else:
        q.join()
    with pytest.raises(queue.ShutDown):
        q.get()


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_wakes_all(queue: ModuleType, kind: str) -> None:
    if queue.__name__ == "queue" and not HAS_SHUTDOWN:
        pytest.skip("this Python's queue has no shutdown()")
    q, seen = getattr(queue, kind)(1), []

    def get() -> None:
        try:
            q.get()
        except queue.ShutDown:
            seen.append("get")

    threads = [start(get) for _ in range(3)]
    time.sleep(0.02)
    q.shutdown()
    end(*threads)
    assert seen == ["get"] * 3


@pytest.mark.parametrize("timeout", [plain.TIMEOUT_MAX * 2, float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_that_is_too_long_is_an_error_for_who_waits_only(
    queue: ModuleType, kind: str, timeout: float
) -> None:
    q = getattr(queue, kind)(1)
    q.put(1, timeout=timeout)
    with pytest.raises(OverflowError):
        q.put(2, timeout=timeout)
    assert q.get(timeout=timeout) == 1
    with pytest.raises(OverflowError):
        q.get(timeout=timeout)


def test_who_replaces_the_wait_of_a_condition_hears_of_waits(
    queue: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = queue.Queue(1)
    q.put(1)
    waits = []
    original = q.not_full.wait

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return original(timeout)

    monkeypatch.setattr(q.not_full, "wait", wait)
    with pytest.raises(queue.Full):
        q.put(2, timeout=0.01)
    assert waits and 0 < waits[0] <= 0.01
