"""Locks, conditions, events, semaphores and queues of threads: treadle, the standard library, aiologic, culsans."""

from __future__ import annotations

import _thread
import queue as stdlib_queue
import threading as stdlib
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from treadle import queue, threading

from ..harness import Contestant, Row, Work

THREADS = 8


def fresh(make: Callable[[], Any], shape: Callable[[Any], Work]) -> Callable[[ExitStack], Work]:
    """A contestant on an object that is made once."""
    return lambda stack: shape(make())


def peer(module: str, name: str, shape: Callable[[Any], Work], *path: str) -> Callable[[ExitStack], Work]:
    """A contestant from a package that may not be installed."""

    def open_it(stack: ExitStack) -> Work:
        thing = getattr(import_module(module), name)()
        for attribute in path:
            thing = getattr(thing, attribute)
        return shape(thing)

    return open_it


def with_statement(lock: Any) -> Work:
    """Take it and let it go; nobody else wants it."""

    def work(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    return work


def contended(lock: Any) -> Work:
    """Eight threads, the same lock."""

    def work(count: int) -> None:
        def one() -> None:
            for _ in range(count // THREADS):
                with lock:
                    pass

        run([one] * THREADS)

    return work


def run(functions: list[Callable[[], None]]) -> None:
    """Each in a thread; the same plain threads for all contestants."""
    threads = [stdlib.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def condition_ping_pong(condition: Any) -> Work:
    """Two threads take turns."""

    def work(count: int) -> None:
        turn = [0]

        def play(me: int) -> None:
            for _ in range(count // 2):
                with condition:
                    while turn[0] != me:
                        condition.wait()
                    turn[0] = 1 - me
                    condition.notify()

        run([lambda: play(0), lambda: play(1)])

    return work


def event_ping_pong(make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    """Two threads take turns."""

    def open_it(stack: ExitStack) -> Work:
        events = [make(), make()]

        def work(count: int) -> None:
            def play(me: int) -> None:
                for _ in range(count // 2):
                    events[me].wait()
                    events[me].clear()
                    events[1 - me].set()

            events[0].set()
            run([lambda: play(0), lambda: play(1)])
            events[0].clear()

        return work

    return open_it


def two_locks(stack: ExitStack) -> Work:
    """Two threads take turns by the interpreter's own locks alone: what two futex calls a turn cost here."""

    def work(count: int) -> None:
        locks = [_thread.allocate_lock(), _thread.allocate_lock()]
        for lock in locks:
            lock.acquire()

        def play(me: int) -> None:
            for _ in range(count // 2):
                locks[me].acquire()
                locks[1 - me].release()

        locks[0].release()
        run([lambda: play(0), lambda: play(1)])

    return work


def put_get(q: Any) -> Work:
    """One thread."""

    def work(count: int) -> None:
        put, get = q.put, q.get
        for i in range(count):
            put(i)
            get()

    return work


def four_by_four(q: Any) -> Work:
    """Four producers, four consumers."""

    def work(count: int) -> None:
        each = count // 4

        def produce() -> None:
            for i in range(each):
                q.put(i)

        def consume() -> None:
            for _ in range(each):
                q.get()

        run([produce, consume] * 4)

    return work


def rows() -> list[Row]:
    """The rows of the issue that asked for this part."""

    def pair(
        title: str,
        count: int,
        name: str,
        shape: Callable[[Any], Work],
        *more: Contestant,
        share: float = 1,
        goal: float = 1,
    ) -> Row:
        return Row(
            title,
            count,
            [
                Contestant(f"treadle {name}", fresh(getattr(threading, name), shape)),
                Contestant(f"threading {name}", fresh(getattr(stdlib, name), shape), share),
                *more,
            ],
            {f"threading {name}": goal},
        )

    def queues(title: str, count: int, name: str, shape: Callable[[Any], Work], share: float, goal: float) -> Row:
        return Row(
            title,
            count,
            [
                Contestant(f"treadle {name}", fresh(getattr(queue, name), shape)),
                Contestant(f"queue {name}", fresh(getattr(stdlib_queue, name), shape), share),
                Contestant("culsans", peer("culsans", "Queue", shape, "sync_q"), min(share, 0.1)),
                Contestant("aiologic", peer_queue(shape), min(share, 0.1)),
            ],
            {f"queue {name}": goal},
        )

    return [
        pair("with lock", 300_000, "Lock", with_statement,
             Contestant("aiologic", peer("aiologic.lowlevel", "ThreadLock", with_statement)),
             Contestant("aiologic Lock", peer("aiologic", "Lock", with_statement), 0.1), goal=1 / 0.6),
        pair("with rlock", 300_000, "RLock", with_statement,
             Contestant("aiologic RLock", peer("aiologic", "RLock", with_statement), 0.1), goal=1 / 0.6),
        pair("with semaphore", 300_000, "Semaphore", with_statement,
             Contestant("aiologic Semaphore", peer("aiologic", "Semaphore", with_statement), 0.2), share=0.1, goal=5),
        pair("contended lock, 8 threads", 200_000, "Lock", contended),
        pair("condition ping-pong", 10_000, "Condition", condition_ping_pong,
             Contestant("aiologic Condition", peer("aiologic", "Condition", condition_ping_pong)),
             Contestant("two bare locks in turns", two_locks, limit=True), goal=1 / 0.7),
        Row("event ping-pong", 10_000, [
            Contestant("treadle Event", event_ping_pong(threading.Event)),
            Contestant("threading Event", event_ping_pong(stdlib.Event)),
            Contestant("two bare locks in turns", two_locks, limit=True),
        ], {"threading Event": 1 / 0.7}),
        queues("queue put + get", 200_000, "Queue", put_get, 0.1, 8),
        queues("queue 4 producers, 4 consumers", 100_000, "Queue", four_by_four, 0.2, 3),
        queues("simple queue put + get", 300_000, "SimpleQueue", put_get, 1, 1),
        queues("simple queue 4 x 4", 100_000, "SimpleQueue", four_by_four, 1, 1),
    ]  # fmt: skip


def peer_queue(shape: Callable[[Any], Work]) -> Callable[[ExitStack], Work]:
    """aiologic's queue calls put and get green_put and green_get."""

    def open_it(stack: ExitStack) -> Work:
        inner = import_module("aiologic").Queue()

        class Queue:
            put = staticmethod(inner.green_put)
            get = staticmethod(inner.green_get)

        return shape(Queue)

    return open_it
