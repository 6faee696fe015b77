"""Processes that hand things on, and processes that change the same thing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from treadle import multiprocessing as ours
from treadle.queues.shared import Queue

from ..harness import Contestant, Row, Work
from .queues_shared import FORK, faster_fifo, processes

ROOM = 100  # items that a queue of the pipeline holds
HAMMERS = 4  # processes
OUR_FORK = ours.get_context("fork")


def line(number: int) -> str:
    """What the first stage makes."""
    return f"{number},item {number % 97},{number * 0.5}"


def three_stages(make: Callable[[], Any]) -> Callable[[ExitStack], Work]:
    """Read, parse, add up: a process each, bounded queues between them; the last one tells the sum."""

    def open_it(stack: ExitStack) -> Work:
        raw, parsed, sums = make(), make(), make()

        def read(count: int) -> None:
            for number in range(count):
                raw.put(line(number))
            raw.put(None)

        def parse() -> None:
            while (text := raw.get()) is not None:
                key, name, value = text.split(",")
                parsed.put({"key": int(key), "name": name, "value": float(value)})
            parsed.put(None)

        def add_up() -> None:
            total = 0.0
            while (item := parsed.get()) is not None:
                total += item["value"]
            sums.put(total)

        def work(count: int) -> None:
            started = processes(lambda: read(count), parse, add_up)
            assert sums.get() == count * (count - 1) / 4
            for process in started:
                process.join()

        return work

    return open_it


def counter(context: Any) -> Callable[[ExitStack], Work]:
    """A Value that four processes count up under its lock."""

    def open_it(stack: ExitStack) -> Work:
        value = context.Value("l", 0)

        def hammer(count: int) -> None:
            for _ in range(count):
                with value.get_lock():
                    value.value += 1

        def work(count: int) -> None:
            before, each = value.value, max(1, count // HAMMERS)
            for process in processes(*[lambda: hammer(each)] * HAMMERS):
                process.join()
            assert value.value == before + each * HAMMERS

        return work

    return open_it


def shared_dict(manager: Callable[[], Any], atomic: bool) -> Callable[[ExitStack], Work]:
    """A dict of a hundred counters; exact, so whose updates are not atomic needs a lock beside it."""

    def open_it(stack: ExitStack) -> Work:
        made = stack.enter_context(manager())
        counts, lock = made.dict(dict.fromkeys(range(100), 0)), made.Lock()

        def hammer(count: int) -> None:
            for number in range(count):
                if atomic:
                    counts.update_value(number % 100, _more)
                else:
                    with lock:
                        counts[number % 100] += 1

        def work(count: int) -> None:
            before, each = sum(counts.values()), max(1, count // HAMMERS)
            for process in processes(*[lambda: hammer(each)] * HAMMERS):
                process.join()
            assert sum(counts.values()) == before + each * HAMMERS

        return work

    return open_it


def _more(number: int) -> int:
    return number + 1


def rows() -> list[Row]:
    """The rows of this group."""
    return [
        Row("a pipeline of three processes", 20_000, [
            Contestant("treadle Queue", three_stages(lambda: Queue(ROOM))),
            Contestant("multiprocessing Queue", three_stages(lambda: FORK.Queue(ROOM))),
            Contestant("billiard Queue", three_stages(lambda: import_module("billiard").Queue(ROOM))),
            Contestant("faster-fifo", three_stages(faster_fifo)),
        ]),
        Row("a shared counter, 4 processes", 100_000, [
            Contestant("treadle Value", counter(OUR_FORK)),
            Contestant("multiprocessing Value", counter(FORK)),
            Contestant("billiard Value", counter(_Billiard())),
        ]),
        Row("a shared dict of counters, 4 processes", 20_000, [
            Contestant("treadle Manager", shared_dict(ours.Manager, True)),
            Contestant("multiprocessing Manager", shared_dict(FORK.Manager, False), 0.2),
        ]),
    ]  # fmt: skip


class _Billiard:
    """Its Value, imported when it is asked for."""

    def Value(self, code: str, initial: int) -> Any:
        return import_module("billiard").Value(code, initial)
