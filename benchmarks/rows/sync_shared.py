"""Locks between processes: treadle and multiprocessing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from treadle.sync import shared

from ..harness import Contestant, Row, Work

# "fork", so that starting the processes costs both the same, and little.
FORK = multiprocessing.get_context("fork")
PROCESSES = 4

Make = Callable[[], Any]


def hold(lock: Any, count: int) -> None:
    for _ in range(count):
        with lock:
            pass


def alone(make: Make) -> Callable[[ExitStack], Work]:
    """One process takes it again and again."""

    def open_it(stack: ExitStack) -> Work:
        lock = make()
        return lambda count: hold(lock, count)

    return open_it


def contended(make: Make) -> Callable[[ExitStack], Work]:
    """Several processes want it all the time."""

    def open_it(stack: ExitStack) -> Work:
        lock = make()

        def work(count: int) -> None:
            started = [FORK.Process(target=hold, args=(lock, count // PROCESSES)) for _ in range(PROCESSES)]
            for process in started:
                process.start()
            for process in started:
                process.join()

        return work

    return open_it


def turns(make: Make) -> Callable[[ExitStack], Work]:
    """Two processes wake each other through two events."""

    def open_it(stack: ExitStack) -> Work:
        there, back = make(), make()

        def answer(count: int) -> None:
            for _ in range(count):
                there.wait()
                there.clear()
                back.set()

        def work(count: int) -> None:
            other = FORK.Process(target=answer, args=(count // 2,))
            other.start()
            for _ in range(count // 2):
                there.set()
                back.wait()
                back.clear()
            other.join()

        return work

    return open_it


def create(make: Make) -> Callable[[ExitStack], Work]:
    """Made, taken once, and dropped."""

    def open_it(stack: ExitStack) -> Work:
        def work(count: int) -> None:
            for _ in range(count):
                with make():
                    pass

        return work

    return open_it


def rows() -> list[Row]:
    """The rows."""

    def pair(title: str, count: int, name: str, shape: Any, *args: Any, share: float = 1.0, goal: float = 1) -> Row:
        return Row(title, count, [
            Contestant(f"treadle {name}", shape(lambda: getattr(shared, name)(*args))),
            Contestant(f"multiprocessing {name}", shape(lambda: getattr(FORK, name)(*args)), share),
            Contestant(f"billiard {name}", shape(lambda: getattr(import_module("billiard"), name)(*args)), share),
        ], {f"multiprocessing {name}": goal})  # fmt: skip

    return [
        pair("with process lock", 200_000, "Lock", alone, goal=2),
        pair("with process rlock", 200_000, "RLock", alone),
        pair("with process semaphore", 200_000, "Semaphore", alone, 1),
        pair(f"process lock, {PROCESSES} processes", 200_000, "Lock", contended),
        pair("process event, two processes in turns", 20_000, "Event", turns, share=0.2),
        pair("process lock made, taken, dropped", 20_000, "Lock", create),
    ]
