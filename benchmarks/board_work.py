"""What `benchmarks.board` runs in a process of its own: ``python -m benchmarks.board_work ROW [COUNT]``.

With a count it does the work once, so many times, and ends.  Else it does a round for each line that it reads, and
prints what it cost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import treadle
from treadle import multiprocessing, queue, threading

from .paired import timed

Work = Callable[[int], object]


class Job(NamedTuple):
    """The work, and which other processes have a part in it."""

    work: Work
    pids: Callable[[], Iterable[int]] = lambda: ()


def identity(x: Any) -> Any:
    return x


def _lock(kind: Callable[[], Any]) -> Callable[[ExitStack], Job]:
    def open(stack: ExitStack) -> Job:
        lock = kind()

        def work(count: int) -> None:
            for _ in range(count):
                with lock:
                    pass

        return Job(work)

    return open


def _put_and_get(kind: Callable[[], Any]) -> Callable[[ExitStack], Job]:
    def open(stack: ExitStack) -> Job:
        q = kind()

        def work(count: int) -> None:
            put, get = q.put, q.get
            for _ in range(count):
                put(None)
                get()

        return Job(work)

    return open


def _ping_pong(stack: ExitStack) -> Job:
    """Two threads that wait for each other all the time: two waits each turn."""
    ping, pong = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()

    def answer() -> None:
        while ping.get() is not None:
            pong.put(0)

    thread = threading.Thread(target=answer)
    thread.start()
    stack.callback(lambda: (ping.put(None), thread.join()))

    def work(count: int) -> None:
        for _ in range(count):
            ping.put(0)
            pong.get()

    return Job(work)


def _contended(stack: ExitStack) -> Job:
    """Four threads that want one lock."""
    lock = threading.Lock()

    def work(count: int) -> None:
        def want() -> None:
            for _ in range(count // 4):
                with lock:
                    pass

        threads = [threading.Thread(target=want) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return Job(work)


def _pool(engine: Any, how: str) -> Callable[[ExitStack], Job]:
    def open(stack: ExitStack) -> Job:
        pool = stack.enter_context(treadle.Pool(2, engine))

        def map(count: int) -> None:
            for _ in pool.map(identity, range(count)):
                pass

        def submit(count: int) -> None:
            for future in [pool.submit(identity, n) for n in range(count)]:
                future.result()

        def answers(count: int) -> None:
            for n in range(count):
                pool.submit(identity, n).result()

        def pids() -> list[int]:
            return [worker.pid for worker in pool.stats().workers if worker.pid] if engine == "processes" else []

        return Job({"map": map, "submit": submit, "answers": answers}[how], pids)

    return open


# Name -> how many a round, and how to set it up.
ROWS: dict[str, tuple[int, Callable[[ExitStack], Job]]] = {
    "Lock, nobody waits": (400_000, _lock(threading.Lock)),
    "Lock of processes, nobody waits": (400_000, _lock(multiprocessing.Lock)),
    "Lock, four threads want it": (200_000, _contended),
    "Queue, put and get": (200_000, _put_and_get(queue.Queue)),
    "Queue of processes, put and get": (50_000, _put_and_get(multiprocessing.Queue)),
    "SimpleQueue, two threads in turns": (20_000, _ping_pong),
    "pool of threads, map": (50_000, _pool("threads", "map")),
    "pool of threads, submit": (20_000, _pool("threads", "submit")),
    "pool of processes, map": (200_000, _pool("processes", "map")),
    "pool of processes, submit": (30_000, _pool("processes", "submit")),
    "pool of processes, one after the other": (10_000, _pool("processes", "answers")),
}


def main() -> None:
    row, *rest = sys.argv[1:]
    count, open = ROWS[row]
    with ExitStack() as stack:
        job = open(stack)
        if rest:
            job.work(int(rest[0]))
            return
        for _ in sys.stdin:
            print(json.dumps(timed(lambda: job.work(count), count, job.pids)), flush=True)


if __name__ == "__main__":
    main()
