"""The same work done by one thread up to eight: on a free-threaded Python what can go in parallel should."""

from __future__ import annotations

import queue as stdlib_queue
import threading as stdlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import treadle
from treadle import queue, threading

from ..harness import Contestant, Row, Sweep, Work
from .scaling import compute
from .sync import run

THREADS = (1, 2, 4, 8)
STEPS = 20_000

Open = Callable[[ExitStack], Work]


def locked(make: Callable[[], Any], threads: int) -> Open:
    """All threads want the same lock, all the time."""

    def open_it(stack: ExitStack) -> Work:
        lock = make()

        def work(count: int) -> None:
            def one() -> None:
                for _ in range(count // threads):
                    with lock:
                        pass

            run([one] * threads)

        return work

    return open_it


def apart(make: Callable[[], Any], threads: int) -> Open:
    """A lock for each thread: nothing to wait for."""

    def open_it(stack: ExitStack) -> Work:
        locks = [make() for _ in range(threads)]

        def work(count: int) -> None:
            def one(lock: Any) -> Callable[[], None]:
                def hold() -> None:
                    for _ in range(count // threads):
                        with lock:
                            pass

                return hold

            run([one(lock) for lock in locks])

        return work

    return open_it


def through_a_queue(make: Callable[[], Any], threads: int) -> Open:
    """Each thread puts and gets."""

    def open_it(stack: ExitStack) -> Work:
        q = make()

        def work(count: int) -> None:
            def one() -> None:
                for number in range(count // threads):
                    q.put(number)
                    q.get()

            run([one] * threads)

        return work

    return open_it


def computing(make: Callable[[int], Any], threads: int) -> Open:
    """A pool of so many threads computes."""

    def open_it(stack: ExitStack) -> Work:
        pool = stack.enter_context(make(threads))

        def work(count: int) -> None:
            assert sum(1 for _ in pool.map(compute, [STEPS] * count)) == count

        return work

    return open_it


def _row(title: str, count: int, contestants: dict[str, Open]) -> Row:
    return Row(title, count, [Contestant(name, open_it) for name, open_it in contestants.items()])


def sweeps() -> list[Sweep]:
    """The sweeps of this group."""
    return [
        Sweep("one lock", "threads", THREADS, lambda n: _row(f"one lock, {n} threads", 100_000, {
            "treadle Lock": locked(threading.Lock, n), "threading Lock": locked(stdlib.Lock, n),
        }), False, quick=4),
        Sweep("a lock each", "threads", THREADS, lambda n: _row(f"a lock each, {n} threads", 300_000, {
            "treadle Lock": apart(threading.Lock, n), "threading Lock": apart(stdlib.Lock, n),
        }), False, quick=4),
        Sweep("one queue", "threads", THREADS, lambda n: _row(f"one queue, {n} threads", 50_000, {
            "treadle Queue": through_a_queue(queue.Queue, n),
            "treadle SimpleQueue": through_a_queue(queue.SimpleQueue, n),
            "queue Queue": through_a_queue(stdlib_queue.Queue, n),
            "queue SimpleQueue": through_a_queue(stdlib_queue.SimpleQueue, n),
        }), False, quick=4),
        Sweep("a pool that computes", "threads", THREADS, lambda n: _row(f"a pool that computes, {n} threads", 400, {
            "treadle.Pool, threads": computing(lambda n: treadle.Pool(n, "threads"), n),
            "ThreadPoolExecutor": computing(ThreadPoolExecutor, n),
        }), False, quick=4),
    ]  # fmt: skip
