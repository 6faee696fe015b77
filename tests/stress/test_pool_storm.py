"""A pool whose workers are killed all the time, and one whose workers live for one task each."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import storm_work as work

import treadle

PERIOD = 0.05  # seconds between two kills
STORM_SECONDS = 60.0  # after that the rest is left in peace: on a busy machine hardly a worker lives long enough to run


class Killer(threading.Thread):
    """Kills a random worker of the pool again and again."""

    def __init__(self, pool: treadle.Pool, seed: int, period: float) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._period = period
        self._random = random.Random(seed)
        self._end = threading.Event()
        self.killed: set[int] = set()

    def run(self) -> None:
        until = time.monotonic() + STORM_SECONDS
        while not self._end.wait(self._period) and time.monotonic() < until:
            # Those that are up: twelve in a row that are killed before they are ready mean that none can be started,
            # and on a busy machine that would come to pass.
            pids = [w.pid for w in self._pool.stats().workers if w.pid is not None and w.state in ("running", "idle")]
            if not pids:
                continue
            pid = self._random.choice(pids)
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                # Still one of ours?  A number of a process that is gone may be another one's by now.
                if pid in [w.pid for w in self._pool.stats().workers]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    self.killed.add(pid)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)

    def stop(self) -> None:
        self._end.set()
        self.join()


def storm(count: int, book: Path, period: float = PERIOD) -> int:
    """Half of the tasks with retries, half without, 4 workers, and a kill every so often; returns how many failed."""
    book.write_bytes(bytes(2 * count))
    chance = random.Random(17)
    times = [chance.uniform(0, 5) for _ in range(count)]
    outcomes: dict[int, object] = {}
    twice: list[int] = []

    def run(numbers: range, retries: int) -> None:
        results = pool.map(work.work, numbers, [times[n] for n in numbers], retries=retries, on_error="return")
        for number, result in zip(numbers, results, strict=True):
            if number in outcomes:
                twice.append(number)
            outcomes[number] = result

    with treadle.Pool(4, "processes", initializer=work.open_book, initargs=(str(book),)) as pool:
        killer = Killer(pool, 23, period)
        killer.start()
        threads = [threading.Thread(target=run, args=(range(k, count, 2), (100, 0)[k])) for k in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        killer.stop()
        stats = pool.stats()
    assert not twice and sorted(outcomes) == list(range(count)), "each ends once"
    failed = [n for n in range(count) if outcomes[n] != n]
    wrong = [(n, outcomes[n]) for n in failed if n % 2 == 0]
    assert not wrong, f"with retries all succeed: {wrong[:3]}"
    assert (stats.done, stats.failed, stats.queued) == (count - len(failed), len(failed), 0)
    written = book.read_bytes()
    blamed: list[int | None] = []
    for number in range(count):
        begun, ended = written[2 * number], written[2 * number + 1]
        if number in failed:
            error = outcomes[number]
            assert isinstance(error, treadle.WorkerDied) and error.exitcode == -signal.SIGKILL, error
            blamed.append(error.pid)
            assert begun <= 1, "it was run again although it must not be"
        elif number % 2:
            assert (begun, ended) == (1, 1), "one that was not to be repeated ran, to its end, once"
        else:
            assert begun >= 1 and ended >= 1
    # Exactly the running ones: a worker runs one task at a time, so each kill costs one task at most.
    assert len(set(blamed)) == len(blamed), "two tasks are blamed for one death"
    assert set(blamed) <= killer.killed, "a task failed whose worker was not killed"
    assert len(killer.killed) >= 3
    return len(failed)


def test_a_small_storm(tmp_path: Path) -> None:
    storm(2_000, tmp_path / "book", 0.15)  # seldom enough for workers to come up on a busy machine


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_hundred_thousand_tasks_and_a_kill_every_50_ms(tmp_path: Path) -> None:
    failed = storm(100_000, tmp_path / "book")
    assert failed > 10


def belongings() -> tuple[int, int, int]:
    """Descriptors, threads, and kibibytes of memory of this process."""
    gc.collect()
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * 4
    return len(os.listdir("/proc/self/fd")), threading.active_count(), rss


def recycle(count: int) -> None:
    with treadle.Pool(2, "processes", max_tasks_per_worker=1) as pool:
        assert list(pool.map(abs, range(count // 4))) == list(range(count // 4))
        before = belongings()
        assert list(pool.map(abs, range(count))) == list(range(count))
        after = belongings()
        stats = pool.stats()
        assert (stats.done, stats.failed, stats.restarts) == (count + count // 4, 0, 0)
    # What is on its way when we look: two workers come and two go, with a few descriptors each.
    assert after[0] <= before[0] + 20 and after[1] <= before[1]
    assert after[2] <= before[2] + 8_000, "kibibytes"


def test_recycling_after_each_task_loses_nothing() -> None:
    recycle(80)


@pytest.mark.heavy
@pytest.mark.timeout(900)  # each takes a new process, a sixth of a second on a machine that is busy four times over
def test_recycling_after_each_task_two_thousand_times() -> None:
    recycle(1_600)  # and 400 before


@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.timeout(600)
def test_recycling_after_each_task_ten_thousand_times() -> None:
    recycle(8_000)
