"""Processes that work on one shared object, each killed -9 at a random moment again and again, and replaced.

    python shared_storm.py KIND KILLS [SEED]

Those who live must go on after each kill; what the object guards must hold throughout; and in the end it is as it was.
Prints a line with figures, and exits with 0 if all is well.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable

from treadle._native import _core
from treadle.errors import LockRecoveredWarning
from treadle.sync.barrier import BrokenBarrierError
from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

WORKERS = 4
PERMITS = 2
PATIENCE = 10.0  # seconds within which somebody must have got on; the figures show what it took, which is below 0.2 s

fork = multiprocessing.get_context("fork")


class Cells:
    """64-bit numbers in shared memory; each is written by one process at a time."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, 8 * count)

    def __getitem__(self, i: int) -> int:
        return int(struct.unpack_from("q", self._memory, 8 * i)[0])

    def __setitem__(self, i: int, value: int) -> None:
        struct.pack_into("q", self._memory, 8 * i, value)


class Storm:
    """Cells for worker i: what it has done, its pid while it holds the object, and when it started."""

    FIRST, SECOND, PROGRESS, INSIDE, SINCE = 0, 1, 2, 2 + WORKERS, 2 + 2 * WORKERS

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.cells = Cells(2 + 3 * WORKERS)
        self.lock: Lock | RLock = RLock() if kind == "RLock" else Lock()
        self.semaphore = BoundedSemaphore(PERMITS) if kind == "BoundedSemaphore" else Semaphore(PERMITS)
        self.condition = Condition()
        self.turn = Event()
        self.barrier = Barrier(WORKERS)

    def did(self, i: int) -> None:
        self.cells[self.PROGRESS + i] += 1

    def total(self) -> int:
        return sum(self.cells[self.PROGRESS + i] for i in range(WORKERS))

    # -- what a worker does

    def locks(self, i: int) -> None:
        """Two numbers are equal whenever nobody has the lock, unless its owner was killed: then that is said."""
        cells = self.cells
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.lock.acquire()
        if any(issubclass(each.category, LockRecoveredWarning) for each in caught):
            cells[self.SECOND] = cells[self.FIRST]
        assert cells[self.FIRST] == cells[self.SECOND], "two at once, or a death that nobody was told of"
        cells[self.FIRST] += 1
        cells[self.SECOND] += 1
        self.lock.release()
        self.did(i)

    def permits(self, i: int) -> None:
        with self.semaphore:
            self.cells[self.INSIDE + i] = os.getpid()
            if self.inside() > PERMITS and self.inside(living=True) > PERMITS:
                raise AssertionError("more inside than there are permits")
            self.did(i)
            self.cells[self.INSIDE + i] = 0

    def inside(self, living: bool = False) -> int:
        there = [(pid, self.cells[self.SINCE + i]) for i in range(WORKERS) if (pid := self.cells[self.INSIDE + i])]
        return sum(1 for pid, start in there if not living or _core.process_start(pid) == start)

    def waits(self, i: int) -> None:
        """Each waits for a notification that one of the others must give; nobody waits when there is nobody else."""
        warnings.simplefilter("ignore")
        with self.condition:
            self.condition.notify()
            self.condition.wait(0.2)  # the time-out is for when all others are just being replaced
        self.did(i)

    def sets(self, i: int) -> None:
        if i % 2:
            self.turn.wait(0.2)
            self.turn.clear()
        else:
            self.turn.set()
        self.did(i)

    def meets(self, i: int) -> None:
        try:
            self.barrier.wait()
        except BrokenBarrierError:
            self.barrier.reset()
        self.did(i)

    @property
    def step(self) -> Callable[[int], None]:
        return {
            "Lock": self.locks,
            "RLock": self.locks,
            "Semaphore": self.permits,
            "BoundedSemaphore": self.permits,
            "Condition": self.waits,
            "Event": self.sets,
            "Barrier": self.meets,
        }[self.kind]

    def check(self) -> None:
        warnings.simplefilter("ignore")
        assert self.lock.acquire(timeout=PATIENCE)
        self.lock.release()
        for _ in range(PERMITS):
            assert self.semaphore.acquire(timeout=PATIENCE), "a permit is lost"
        assert not self.semaphore.acquire(False), "a permit too many"


def work(storm: Storm, i: int) -> None:
    storm.cells[storm.SINCE + i] = _core.process_start(os.getpid())
    step = storm.step
    while True:
        step(i)


def main(kind: str, kills: int, seed: int) -> None:
    storm, rng = Storm(kind), random.Random(seed)
    workers = [fork.Process(target=work, args=(storm, i)) for i in range(WORKERS)]
    for worker in workers:
        worker.start()
    longest = 0.0
    try:
        for _ in range(kills):
            time.sleep(rng.random() * 0.004)
            i = rng.randrange(WORKERS)
            assert workers[i].exitcode is None, f"it has ended by itself: {workers[i].exitcode}"
            workers[i].kill()
            began, before = time.monotonic(), storm.total()
            workers[i].join()
            assert workers[i].exitcode == -signal.SIGKILL, f"it had ended by itself: {workers[i].exitcode}"
            if kind != "Barrier":  # the barrier needs the new one as well, unless it is broken and reset
                await_progress(storm, before, began)
            storm.cells[storm.INSIDE + i] = 0
            workers[i] = fork.Process(target=work, args=(storm, i))
            workers[i].start()
            await_progress(storm, before, began)
            longest = max(longest, time.monotonic() - began)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    storm.check()
    print(f"{kind}: {kills} kills, {storm.total()} steps, longest stop {longest * 1e3:.0f} ms")
    storm = None  # type: ignore[assignment]
    # A child that was killed before it had begun to run is believed to come for ten seconds.
    until = time.monotonic() + 15
    while _core.arena_used() != (0, 1) and time.monotonic() < until:
        time.sleep(0.1)
        _core.arena_sweep(True)
    assert _core.arena_used() == (0, 1), f"left behind: {_core.arena_used()}"


def await_progress(storm: Storm, before: int, began: float) -> None:
    while storm.total() <= before:
        assert time.monotonic() - began < PATIENCE, "nobody gets on"
        time.sleep(0.0002)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
