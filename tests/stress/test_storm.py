"""Long runs under constant trouble."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import pytest
import stress_work as work

from treadle import Pool, WorkerDied, failure

TASKS = 20_000


@pytest.mark.heavy
@pytest.mark.by_hand  # `test_pool_storm.py` has the larger one
@pytest.mark.timeout(600)
@pytest.mark.parametrize("retries", [0, 1000])
@pytest.mark.parametrize("workers", [2, 8])
def test_a_worker_is_killed_every_50_ms(workers: int, retries: int, tmp_path: Path) -> None:
    """20,000 tasks of 0 to 5 ms: each ends exactly once, and only what ran in a killed worker fails or runs again."""
    path = str(tmp_path / "log")
    chance = random.Random(workers + retries)
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.05):
            pids = [w.pid for w in pool.stats().workers if w.pid is not None]
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    pid = chance.choice(pids)
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    with Pool(workers, engine="processes") as pool:
        thread = threading.Thread(target=kill)
        thread.start()
        ends: Counter[int] = Counter()
        submit = pool.options(retries=retries).submit
        futures = [submit(work.nap, path, i, chance.choice((0, 0, 0.001, 0.005))) for i in range(TASKS)]
        for i, future in enumerate(futures):
            future.add_done_callback(lambda f, i=i: ends.update([i]))  # type: ignore[misc]
        _, pending = wait(futures, 500)
        stop.set()
        thread.join()
        assert not pending
        stats = pool.stats()
    assert ends == Counter(range(TASKS))
    errors = {i: f.exception() for i, f in enumerate(futures) if f.exception() is not None}
    starts = Counter(map(int, Path(path).read_text().split()))
    assert all(f.result() == i for i, f in enumerate(futures) if i not in errors)
    assert len(errors) <= len(killed) and stats.failed == len(errors) and stats.done == TASKS - len(errors)
    if retries:
        assert not errors
        assert sum(starts.values()) <= TASKS + len(killed)
    else:
        assert max(starts.values()) == 1, "nothing runs twice unless asked for"
        for i, error in errors.items():
            assert type(error) is WorkerDied and error.pid in killed and error.signal == signal.SIGKILL
            info = failure(error)
            assert info is not None and info.item[1] == i
    assert len(killed) > 50
