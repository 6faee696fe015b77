"""Time against the number of tasks, of workers, and against the size of what travels."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import treadle
from treadle.queues.shared import Queue

from ..harness import Contestant, Row, Sweep, Work
from ..zmq_queue import ZmqQueue
from .pool import identity
from .queues_shared import FORK, processes

WORKERS = 2
TASKS = tuple(10**power for power in range(2, 8))
CROWDS = (1, 2, 4, 8, 16)
SIZES = tuple(10**power for power in range(10))  # bytes: 1 B to 1 GB
ALOUD = 30_000  # steps of a task that computes for a millisecond or so

Open = Callable[[ExitStack], Work]


def compute(steps: int) -> int:
    """A task that keeps a core busy."""
    total = 0
    for number in range(steps):
        total += number
    return total


def _mapped(make: Callable[[], Any], mapped: Callable[[Any, Any, Iterable[Any]], Iterable[Any]], fn: Any) -> Open:
    def open_it(stack: ExitStack) -> Work:
        pool = stack.enter_context(make())
        items = range if fn is identity else lambda count: [ALOUD] * count

        def work(count: int) -> None:
            assert sum(1 for _ in mapped(pool, fn, items(count))) == count

        return work

    return open_it


def _of(workers: int, fn: Any, chunk: int) -> dict[str, Open]:
    """The pools, so many workers each, with the chunks that suit them."""
    executor = concurrent.futures.ProcessPoolExecutor
    return {
        "treadle.Pool.map, processes": _mapped(
            lambda: treadle.Pool(workers, "processes"), lambda pool, fn, items: pool.map(fn, items), fn
        ),
        "treadle.Pool.map, threads": _mapped(
            lambda: treadle.Pool(workers, "threads"), lambda pool, fn, items: pool.map(fn, items), fn
        ),
        "multiprocessing.Pool.map": _mapped(
            lambda: multiprocessing.Pool(workers), lambda pool, fn, items: pool.map(fn, items), fn
        ),
        "multiprocessing.Pool.imap": _mapped(
            lambda: multiprocessing.Pool(workers), lambda pool, fn, items: pool.imap(fn, items), fn
        ),
        "ProcessPoolExecutor.map, its best chunks": _mapped(
            lambda: executor(workers), lambda pool, fn, items: pool.map(fn, items, chunksize=chunk), fn
        ),
    }


def _pickle_alone(stack: ExitStack) -> Work:
    """Each number, there and back, a thousand at a time: no process, no queue."""

    def work(count: int) -> None:
        for start in range(0, count, 1000):
            pickle.loads(pickle.dumps(list(range(start, min(count, start + 1000))), 5))
            pickle.loads(pickle.dumps(list(range(start, min(count, start + 1000))), 5))

    return work


def by_tasks(count: int) -> Row:
    """No-op tasks, from the first to the last result."""
    pools = _of(WORKERS, identity, max(1, count // 8))
    contestants = [Contestant(name, open_it) for name, open_it in pools.items()]
    contestants.append(Contestant("pickle alone", _pickle_alone, limit=True))
    return Row(f"{count:,} no-op tasks", count, contestants, turn=float("inf"))


def by_workers(workers: int) -> Row:
    """The same tasks, more workers than there are cores."""
    tasks = 400
    pools = _of(workers, compute, 10)
    contestants = [Contestant(name, open_it) for name, open_it in pools.items() if "threads" not in name]
    contestants.append(Contestant("one core, in turn", lambda _: _loop, limit=True))
    return Row(f"tasks of a millisecond, {workers} workers", tasks, contestants, turn=float("inf"))


def _loop(count: int) -> None:
    for _ in range(count):
        compute(ALOUD)


def by_noops_and_workers(workers: int) -> Row:
    """Nothing but overhead."""
    pools = _of(workers, identity, 2500)
    contestants = [Contestant(name, open_it) for name, open_it in pools.items()]
    return Row(f"no-op tasks, {workers} workers", 20_000, contestants, turn=float("inf"))


@lru_cache(1)
def _payload(size: int) -> bytes:
    # Not random: a gigabyte of that takes its time, and nobody here compresses.  Not zeros either: the kernel has one
    # page for all of these.
    return b"\x01" * size


def _call(make: Callable[[], Any], call: Callable[[Any, bytes], int], size: int) -> Open:
    def open_it(stack: ExitStack) -> Work:
        pool, payload = stack.enter_context(make()), _payload(size)

        def work(count: int) -> None:
            for _ in range(count):
                assert call(pool, payload) == size

        return work

    return open_it


def _memcpy(size: int) -> Open:
    def open_it(stack: ExitStack) -> Work:
        source, to = memoryview(_payload(size)), memoryview(bytearray(size))

        def work(count: int) -> None:
            for _ in range(count):
                to[:] = source

        return work

    return open_it


def _pickled(size: int) -> Open:
    def open_it(stack: ExitStack) -> Work:
        payload = _payload(size)

        def work(count: int) -> None:
            for _ in range(count):
                pickle.loads(pickle.dumps(payload, 5))

        return work

    return open_it


def _bare_pipe(size: int) -> Open:
    """The bytes through a pipe to another process, and one byte back."""

    def open_it(stack: ExitStack) -> Work:
        payload = memoryview(_payload(size))
        (theirs, to), (back, answer) = os.pipe(), os.pipe()

        def serve() -> None:
            os.close(to)
            scratch = bytearray(min(size, 1 << 20))
            while True:
                left = size
                while left:
                    got = os.readv(theirs, [memoryview(scratch)[: min(left, len(scratch))]])
                    if not got:
                        return
                    left -= got
                os.write(answer, b"!")

        (process,) = processes(serve)
        os.close(theirs)
        for closing in (process.join, lambda: os.close(to), lambda: os.close(back), lambda: os.close(answer)):
            stack.callback(closing)

        def work(count: int) -> None:
            for _ in range(count):
                sent = 0
                while sent < size:
                    sent += os.write(to, payload[sent:])
                os.read(back, 1)

        return work

    return open_it


def _operations(size: int) -> int:
    """A turn of some tenths of a second at most."""
    return max(1, min(2000, 200_000_000 // size))


def by_argument(size: int) -> Row:
    """A call with an argument of so many bytes, and a small result."""
    executor = concurrent.futures.ProcessPoolExecutor
    return Row(f"a call with {size:,} bytes", _operations(size), [
        Contestant("treadle.Pool.submit", _call(lambda: treadle.Pool(1, "processes"),
                                                lambda pool, data: pool.submit(len, data).result(), size)),
        Contestant("multiprocessing.Pool.apply", _call(lambda: multiprocessing.Pool(1),
                                                       lambda pool, data: pool.apply(len, (data,)), size)),
        Contestant("ProcessPoolExecutor.submit", _call(lambda: executor(1),
                                                       lambda pool, data: pool.submit(len, data).result(), size)),
        Contestant("bare pipe, there and back", _bare_pipe(size), limit=True),
        Contestant("pickle alone", _pickled(size), limit=True),
        Contestant("memcpy", _memcpy(size), limit=True),
    ])  # fmt: skip


def _queue(make: Callable[[], Any], size: int) -> Open:
    """From another process through a queue, one at a time."""

    def open_it(stack: ExitStack) -> Work:
        to, back = make(), make()

        def serve() -> None:
            while (payload := to.get()) is not None:
                back.put(len(payload))

        (process,) = processes(serve)
        stack.callback(process.join)
        stack.callback(to.put, None)
        payload = _payload(size)

        def work(count: int) -> None:
            for _ in range(count):
                to.put(payload)
                assert back.get() == size

        return work

    return open_it


def by_message(size: int) -> Row:
    """A message of so many bytes to another process, and a small answer."""
    return Row(f"a message of {size:,} bytes", _operations(size), [
        Contestant("treadle Queue", _queue(Queue, size)),
        Contestant("multiprocessing Queue", _queue(FORK.Queue, size)),
        Contestant("multiprocessing SimpleQueue", _queue(FORK.SimpleQueue, size)),
        Contestant("pyzmq PUSH, PULL", _queue(ZmqQueue, size)),
        Contestant("bare pipe, there and back", _bare_pipe(size), limit=True),
        Contestant("pickle alone", _pickled(size), limit=True),
        Contestant("memcpy", _memcpy(size), limit=True),
    ])  # fmt: skip


def sweeps() -> list[Sweep]:
    """The sweeps of this group."""
    return [
        Sweep("no-op tasks through a map", "number of tasks", TASKS, by_tasks, True, 10_000, 1.05, 1e5),
        Sweep("tasks of a millisecond", "workers", CROWDS, by_workers, False, 2, 0.1, 1),
        Sweep("no-op tasks, more and more workers", "workers", CROWDS, by_noops_and_workers, False, 2, 0.5, 4),
        Sweep("a call with an argument", "bytes", SIZES, by_argument, False, 1_000_000, 1.05, 1e5),
        Sweep("a message through a queue", "bytes", SIZES, by_message, False, 1_000_000, 1.05, 1e5),
    ]
