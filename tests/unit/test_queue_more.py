"""Queues beyond the standard library: many at once, iteration, event loops, and wait() for several things."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import threading as plain
import time

import pytest

from treadle import queue, threading
from treadle.waiting import wait

pytestmark = pytest.mark.timeout(60)
KINDS = [queue.Queue, queue.LifoQueue, queue.PriorityQueue]


def run(target, *args) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", [*KINDS, queue.SimpleQueue])
def test_many(kind) -> None:
    q = kind()
    q.put_many(range(200))
    assert q.qsize() == 200
    first = q.get_many(150)
    assert len(first) == 150
    assert sorted(first + q.get_many(1000)) == list(range(200))
    with pytest.raises(queue.Empty):
        q.get_many(5, timeout=0.01)
    with pytest.raises(ValueError):
        q.get_many(0)


@pytest.mark.parametrize("kind", KINDS)
def test_put_many_waits_for_room_and_hands_the_rest_back(kind) -> None:
    q = kind(3)
    thread = run(q.put_many, range(10))
    got = []
    while len(got) < 10:
        got += q.get_many(4)
    thread.result(10)
    assert sorted(got) == list(range(10))
    with pytest.raises(queue.Full) as caught:
        q.put_many(range(5), timeout=0.02)
    assert caught.value.rest == [3, 4]
    q.shutdown()
    with pytest.raises(queue.ShutDown) as caught:
        q.put_many([7, 8])
    assert caught.value.rest == [7, 8]


@pytest.mark.parametrize("kind", KINDS)
def test_iteration_ends_with_shutdown(kind) -> None:
    q = kind()
    thread = run(lambda: sorted(q))
    q.put_many(range(5))
    q.shutdown()
    assert thread.result(10) == list(range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_loop_and_a_thread(kind) -> None:
    q, back = kind(2), kind(2)

    def work() -> None:
        for item in q:
            back.put(item * 2)
        back.shutdown()

    async def main() -> list[int]:
        async def feed() -> None:
            for i in range(50):
                await q.aput(i)
            q.shutdown()

        feeding = asyncio.create_task(feed())
        items = [item async for item in back]
        await feeding
        return items

    thread = run(work)
    assert sorted(asyncio.run(main())) == [2 * i for i in range(50)]
    thread.result(10)


def test_a_cancelled_aget_takes_nothing() -> None:
    async def main() -> int:
        q = queue.Queue()
        for _ in range(50):
            task = asyncio.create_task(q.aget())
            await asyncio.sleep(0)
            run(q.put, 1).join()
            task.cancel()
            try:
                assert await task == 1
            except asyncio.CancelledError:
                assert q.get(timeout=10) == 1
        return q.qsize()

    assert asyncio.run(main()) == 0


def test_one_getter_dies_another_gets_it() -> None:
    """A notification that meets an interrupt goes to the next waiter."""
    for _ in range(100):
        q = queue.Queue()
        first, second = run(q.get), run(q.get)
        while q._waiters[0] < 2:
            time.sleep(0)
        plain.Thread(target=first.interrupt).start()
        q.put("item")
        limit = time.monotonic() + 10
        while not q.empty():  # the item doesn't lie there while somebody waits for it
            assert time.monotonic() < limit
            time.sleep(0)
        if first.exception(10) is None:
            assert first.result(10) == "item"
        q.put("other")  # for the second, unless the first was interrupted in its wait and the item went on to it
        assert second.result(10) in ("item", "other")


def test_reaching_inside_drops_nothing_under_load() -> None:
    q, got = queue.Queue(), []
    producers = [run(lambda: [q.put(i) for i in range(2000)]) for _ in range(3)]
    consumers = [run(lambda: got.extend(q.get() for _ in range(2000))) for _ in range(3)]
    time.sleep(0.005)
    assert q.mutex is q.mutex  # from here on it works on Python objects
    for thread in producers + consumers:
        thread.result(40)
    assert len(got) == 6000
    assert sorted(got) == sorted(list(range(2000)) * 3)


# -- wait() ----------------------------------------------------------------------------------------------------------


def things():
    q, event, future = queue.Queue(), threading.Event(), concurrent.futures.Future()
    gate = threading.Event()
    ours, theirs = run(gate.wait), plain.Thread(target=gate.wait)
    theirs.start()
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(process.pid)
    yield q, lambda: q.put(1)
    yield event, event.set
    yield future, lambda: future.set_result(1)
    yield reading, lambda: os.write(writing, b"x")
    yield pidfd, lambda: process.communicate(b"\n")
    yield ours, gate.set
    yield theirs, gate.set
    theirs.join()
    for descriptor in (reading, writing, pidfd):
        os.close(descriptor)


def test_wait_for_each_kind() -> None:
    for thing, make_ready in things():
        assert wait(thing, timeout=0.01) in ([], [thing])
        other = queue.Queue()
        timer = threading.Timer(0.03, make_ready)
        timer.start()
        begin = time.monotonic()
        assert wait(other, thing, timeout=20) == [thing]
        assert time.monotonic() - begin < 10
        timer.join()
        assert wait(other, thing, timeout=0) == [thing]


def test_wait_refuses() -> None:
    with pytest.raises(ValueError):
        wait()
    with pytest.raises(TypeError, match="dict"):
        wait({})
    with pytest.raises(RuntimeError):
        wait(threading.Thread())
    q = queue.Queue()
    q.shutdown()
    assert wait(q) == [q]
