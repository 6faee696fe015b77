"""What a task costs the parent, in CPU time of all its threads: the brain alone, and all of it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import treadle
from treadle.pool import events as brain
from treadle.pool.state import State
from treadle.pool.task import RETURNED, Call, Task

from ..harness import Contestant, Row, Work
from .pool import WORKERS, identity

GOAL = 5.0  # microseconds of CPU a task


class _Sink:
    def deliver(self, task: Task, kind: int, data: Any) -> None:
        pass


def _brain_alone(stack: ExitStack) -> Work:
    """Submit one by one, finish in batches, as it is when the main thread submits and the reactor collects."""

    def work(count: int) -> None:
        state, sink, call = State(WORKERS), _Sink(), Call(identity, (1,), None)
        waiting: dict[int, list[int]] = {}

        def do(instructions: list[Any]) -> None:
            for instruction in instructions:
                if type(instruction) is brain.Send:
                    waiting.setdefault(instruction.worker, []).extend(seq for seq, _ in instruction.batch)
                elif type(instruction) is brain.StartWorker:
                    do(state.handle(brain.Ready(instruction.worker)))

        for _ in range(count):
            do(state.handle(brain.Submit([Task(call, sink)])))
        while waiting:
            worker, seqs = waiting.popitem()
            for start in range(0, len(seqs), 64):
                results = [(seq, RETURNED, None, 1000, 0) for seq in seqs[start : start + 64]]
                do(state.handle(brain.Finished(worker, results)))

    return work


def _submit(pool: Any, count: int) -> None:
    for future in [pool.submit(identity, i) for i in range(count)]:
        future.result()


def _apply_async(pool: Any, count: int) -> None:
    for result in [pool.apply_async(identity, (i,)) for i in range(count)]:
        result.get()


def _map(pool: Any, count: int) -> None:
    for _ in pool.map(identity, range(count)):
        pass


def _imap(pool: Any, count: int) -> None:
    for _ in pool.imap(identity, range(count)):
        pass


def cpu_time(make: Callable[[], Any], through: Callable[[Any, int], None]) -> Callable[[ExitStack], Work]:
    """What counts is the CPU time of this process."""

    def open_it(stack: ExitStack) -> Work:
        pool = stack.enter_context(make())

        def work(count: int) -> float:
            began = time.process_time()
            through(pool, count)
            return time.process_time() - began

        return work

    return open_it


def rows() -> list[Row]:
    """The rows of this group."""
    executor, threads = concurrent.futures.ProcessPoolExecutor, concurrent.futures.ThreadPoolExecutor
    return [
        Row("the brain alone: submit, assign, finish", 50_000, [Contestant("treadle State.handle", _brain_alone)]),
        Row("CPU time of the parent: submit, result", 20_000, [
            Contestant("treadle.Pool, processes", cpu_time(lambda: treadle.Pool(WORKERS, "processes"), _submit)),
            Contestant("multiprocessing.Pool.apply_async",
                       cpu_time(lambda: multiprocessing.Pool(WORKERS), _apply_async)),
            Contestant("ProcessPoolExecutor.submit", cpu_time(lambda: executor(WORKERS), _submit), 0.2),
        ], {"": GOAL}),
        Row("CPU time of the parent: map", 50_000, [
            Contestant("treadle.Pool, processes", cpu_time(lambda: treadle.Pool(WORKERS, "processes"), _map)),
            Contestant("multiprocessing.Pool.imap", cpu_time(lambda: multiprocessing.Pool(WORKERS), _imap)),
            Contestant("ProcessPoolExecutor.map", cpu_time(lambda: executor(WORKERS), _map), 0.1),
        ], {"": GOAL}),
        Row("CPU time of submit, result in threads, the calls included", 20_000, [
            Contestant("treadle.Pool, threads", cpu_time(lambda: treadle.Pool(WORKERS, "threads"), _submit)),
            Contestant("ThreadPoolExecutor.submit", cpu_time(lambda: threads(WORKERS), _submit)),
        ], {"": GOAL}),
    ]  # fmt: skip
