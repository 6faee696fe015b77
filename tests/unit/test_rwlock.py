from __future__ import annotations

import threading as plain
import time

import pytest

from treadle.threading import RWLock, Thread

pytestmark = pytest.mark.timeout(60)


def run(target, *args) -> Thread:
    thread = Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("prefer", ["writers", "readers"])
def test_readers_share_and_writers_do_not(prefer: str) -> None:
    lock, readers, writers, seen = RWLock(prefer=prefer), [], [], []

    def read() -> None:
        for _ in range(100):
            with lock.read:
                readers.append(1)
                seen.append((len(readers), len(writers)))
                readers.pop()

    def write() -> None:
        for _ in range(100):
            with lock.write:
                writers.append(1)
                seen.append((len(readers), len(writers)))
                writers.pop()

    threads = [run(f) for f in (read, write, read, write, read)]
    for thread in threads:
        thread.result(30)
    assert len(seen) == 500
    assert all(w == 0 or (r, w) == (0, 1) for r, w in seen)


def test_two_readers_at_once() -> None:
    lock, both = RWLock(), plain.Barrier(2)

    def read() -> int:
        with lock.read:
            return both.wait(10)

    assert sorted([thread.result(20) for thread in (run(read), run(read))]) == [0, 1]


@pytest.mark.parametrize(("prefer", "reads"), [("writers", False), ("readers", True)])
def test_preference(prefer: str, reads: bool) -> None:
    lock = RWLock(prefer=prefer)
    lock.acquire_read()
    writer = run(lock.acquire_write)
    while not lock._writers_waiting:
        time.sleep(0.001)

    def read() -> bool:
        got = lock.acquire_read(timeout=0.05)
        if got:
            lock.release_read()
        return got

    assert run(read).result(10) is reads
    lock.release_read()
    assert writer.result(10) is True


def test_a_writer_that_gives_up_lets_readers_in() -> None:
    lock = RWLock()
    lock.acquire_read()
    writer = run(lambda: lock.acquire_write(timeout=0.2))
    while not lock._writers_waiting:
        time.sleep(0.001)
    assert run(lambda: lock.acquire_read(timeout=20)).result(10) is True
    lock.release_read()
    assert writer.result(10) is False


def test_again_and_wrong() -> None:
    lock = RWLock(name="rw")
    with lock.write, lock.write, lock.read:
        assert run(lambda: lock.acquire_read(blocking=False)).result(10) is False
    with lock.read, lock.read:
        with pytest.raises(RuntimeError, match="reader"):
            lock.acquire_write()
    for release in (lock.release_read, lock.release_write):
        with pytest.raises(RuntimeError):
            release()
    assert "free" in repr(lock)
