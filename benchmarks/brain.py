"""What a task costs the parent, in CPU time: the brain alone, and all of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import treadle
from treadle.pool import state as brain
from treadle.pool.task import RETURNED, Call, Task

from .harness import Contestant, Row, Work
from .pool import WORKERS, identity


class _Sink:
    def deliver(self, task: Task, kind: int, data: Any) -> None:
        pass


def _brain_alone(stack: ExitStack) -> Work:
    """Submit one by one, finish in batches, as it is when the main thread submits and the reactor collects."""

    def work(count: int) -> None:
        state, sink, call = brain.State(WORKERS), _Sink(), Call(identity, (1,), None)
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


def parent_cpu(count: int = 50_000) -> None:
    """Print the CPU time of the parent, all of its threads, for each task: submit, collect, read the result."""
    print("\nCPU time of the parent for one no-op task (microseconds; goal: under 5)")
    for engine in ("processes", "threads"):
        with treadle.Pool(WORKERS, engine) as pool:  # type: ignore[arg-type]
            list(pool.map(identity, range(5_000)))
            began = time.process_time()
            for future in [pool.submit(identity, i) for i in range(count)]:
                future.result()
            submit = time.process_time() - began
            began = time.process_time()
            for _ in pool.map(identity, range(count)):
                pass
            mapped = time.process_time() - began
        print(f"  {engine:<10} submit {submit / count * 1e6:6.2f}   map {mapped / count * 1e6:6.2f}")


def rows() -> list[Row]:
    """The rows of this group."""
    return [Row("the brain alone: submit, assign, finish", 50_000, [Contestant("treadle State.handle", _brain_alone)])]
