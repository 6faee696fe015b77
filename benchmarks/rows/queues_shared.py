"""Queues between processes: treadle, multiprocessing, faster-fifo; and what the machine itself can do."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from treadle.queues.shared import Queue, SimpleQueue

from ..harness import Contestant, Row, Work
from ..zmq_queue import ZmqQueue

# "fork", so that starting the processes costs every contestant the same, and little.
FORK = multiprocessing.get_context("fork")
SMALL = {"id": 12345, "name": "an item", "value": 1.5}
MEGABYTE = os.urandom(1 << 20)
ARRAY_BYTES = 100 << 20

Make = Callable[[], Any]


def faster_fifo() -> Any:
    """Its size is fixed: large enough to be no bound here."""
    return import_module("faster_fifo").Queue(max_size_bytes=64 << 20)


def processes(*functions: Callable[[], object]) -> list[Any]:
    """Each in a process of its own."""
    started = [FORK.Process(target=function, daemon=True) for function in functions]
    for process in started:
        process.start()
    return started


def stream(item: Any, producers: int, consumers: int) -> Callable[[Make], Callable[[ExitStack], Work]]:
    """So many processes put the item, and so many get it: this one too if it is the only one."""

    def with_queue(make: Make) -> Callable[[ExitStack], Work]:
        def open_it(stack: ExitStack) -> Work:
            q = make()

            def produce(count: int) -> None:
                for _ in range(count):
                    q.put(item)

            def consume(count: int) -> None:
                for _ in range(count):
                    q.get()

            def work(count: int) -> None:
                each = max(1, count // max(producers, consumers))
                functions: list[Callable[[], object]] = [lambda: produce(each)] * producers
                if consumers > 1:
                    functions += [lambda: consume(each)] * consumers
                started = processes(*functions)
                if consumers == 1:
                    consume(each * producers)
                for process in started:
                    process.join()

            return work

        return open_it

    return with_queue


def ping_pong(make: Make) -> Callable[[ExitStack], Work]:
    """Two processes, two queues, one message on its way."""

    def open_it(stack: ExitStack) -> Work:
        there, back = make(), make()

        def answer(count: int) -> None:
            for _ in range(count):
                back.put(there.get())

        def work(count: int) -> None:
            started = processes(lambda: answer(count))
            for _ in range(count):
                there.put(SMALL)
                back.get()
            for process in started:
                process.join()

        return work

    return open_it


def answered(make: Make) -> Callable[[ExitStack], Work]:
    """The same, where the other process stays from round to round."""

    def open_it(stack: ExitStack) -> Work:
        there, back = make(), make()

        def answer() -> None:
            while (item := there.get()) is not None:
                back.put(item)

        (process,) = processes(answer)
        stack.callback(process.join)
        stack.callback(there.put, None)

        def work(count: int) -> None:
            for _ in range(count):
                there.put(SMALL)
                back.get()

        return work

    return open_it


def pipe_ping_pong(stack: ExitStack) -> Work:
    """The same with two pipes, and nothing but pickling."""

    def work(count: int) -> None:
        there, back = os.pipe(), os.pipe()

        def answer() -> None:
            for _ in range(count):
                os.write(back[1], pickle.dumps(pickle.loads(os.read(there[0], 4096)), 5))

        started = processes(answer)
        for _ in range(count):
            os.write(there[1], pickle.dumps(SMALL, 5))
            pickle.loads(os.read(back[0], 4096))
        for process in started:
            process.join()
        for descriptor in (*there, *back):
            os.close(descriptor)

    return work


def arrays(make: Make) -> Callable[[ExitStack], Work]:
    """Arrays of 100 MB, from one process to another; who gets one reads a number of each page."""

    def open_it(stack: ExitStack) -> Work:
        numpy = import_module("numpy")
        array = numpy.ones(ARRAY_BYTES // 8)
        q, back = make(), FORK.Semaphore(1)
        orders, given = FORK.Pipe(duplex=False)

        def produce() -> None:
            while (count := orders.recv()) > 0:
                for _ in range(count):
                    back.acquire()
                    q.put(array)

        (process,) = processes(produce)
        stack.callback(process.join)
        stack.callback(given.send, 0)

        def work(count: int) -> None:
            given.send(count)
            for _ in range(count):
                got = q.get()
                back.release()
                assert got[::512].sum() == ARRAY_BYTES // 4096
                del got

        return work

    return open_it


def memcpy(stack: ExitStack) -> Work:
    """One copy of as many bytes, within a process."""
    numpy = import_module("numpy")
    array = numpy.ones(ARRAY_BYTES // 8)
    to = numpy.zeros_like(array)

    def work(count: int) -> None:
        for _ in range(count):
            to[:] = array

    return work


def rows() -> list[Row]:
    """The rows of the issue that asked for this part."""

    def row(
        title: str,
        count: int,
        shape: Callable[[Make], Callable[[ExitStack], Work]],
        share: float,
        goal: float,
        fifo: float = 1,
    ) -> Row:
        return Row(title, count, [
            Contestant("treadle Queue", shape(Queue)),
            Contestant("treadle SimpleQueue", shape(SimpleQueue)),
            Contestant("multiprocessing Queue", shape(FORK.Queue), share),
            Contestant("multiprocessing SimpleQueue", shape(FORK.SimpleQueue), share),
            Contestant("faster-fifo", shape(faster_fifo)),
            Contestant("billiard Queue", shape(lambda: import_module("billiard").Queue()), share),
        ], {"multiprocessing Queue": goal, "faster-fifo": fifo})  # fmt: skip

    return [
        row("process queue, 1 producer, 1 consumer, small dicts", 100_000, stream(SMALL, 1, 1), 0.3, 6, 2),
        row("process queue, 4 x 4, small dicts", 100_000, stream(SMALL, 4, 4), 0.3, 4),
        row("process queue, 1 x 1, bytes of 1 MB", 500, stream(MEGABYTE, 1, 1), 0.5, 3),
        Row("round trip of two processes", 10_000, [
            Contestant("treadle Queue", ping_pong(Queue)),
            Contestant("bare pipes and pickle", pipe_ping_pong, limit=True),
            Contestant("multiprocessing Queue", ping_pong(FORK.Queue), 0.3),
            Contestant("multiprocessing SimpleQueue", ping_pong(FORK.SimpleQueue)),
            Contestant("faster-fifo", ping_pong(faster_fifo)),
            Contestant("billiard Queue", ping_pong(lambda: import_module("billiard").Queue()), 0.3),
            Contestant("pyzmq PUSH, PULL", answered(ZmqQueue), 0.3),
        ], {"bare pipes and pickle": 1 / 1.3}),
        Row("process queue, numpy arrays of 100 MB", 10, [
            Contestant("treadle Queue", arrays(Queue)),
            Contestant("one memcpy", memcpy, limit=True),
            Contestant("multiprocessing Queue", arrays(FORK.Queue), 0.2),
        ], {"one memcpy": 0.5}),
    ]  # fmt: skip
