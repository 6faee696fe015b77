"""Every primitive under eight threads that do their worst, for TREADLE_STRESS_SECONDS each (default 0.5).

For a ThreadSanitizer run see docs in the Makefile's `tsan` target; on a free-threaded build this is where races show.
"""

from __future__ import annotations

import os
import random
import threading as plain
import time
from collections import Counter
from collections.abc import Callable

import pytest

from treadle import queue, threading
from treadle.threading import Interrupted

SECONDS = float(os.environ.get("TREADLE_STRESS_SECONDS", "0.5"))
THREADS = 8
pytestmark = pytest.mark.timeout(60 + 20 * SECONDS)


def storm(work: Callable[[random.Random, Callable[[], bool]], None], threads: int = THREADS) -> None:
    """`work` in each thread until the time is over; nobody may hang or raise."""
    ends = [0.0]

    def begin() -> None:
        ends[0] = time.monotonic() + SECONDS

    together = plain.Barrier(threads, begin)  # where a thread takes long to start, the others would be through by then
    errors: list[BaseException] = []

    def go_on() -> bool:
        return time.monotonic() < ends[0] and not errors

    def run(seed: int) -> None:
        try:
            together.wait()
            work(random.Random(seed), go_on)
        except BaseException as error:
            errors.append(error)

    all_threads = [plain.Thread(target=run, args=(seed,), daemon=True) for seed in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join(SECONDS + 40)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in all_threads), "a thread hangs"


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_locks(kind) -> None:
    lock, total, own = kind(), [0], Counter()

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        me = plain.get_ident()
        while go_on() or len(own) < THREADS:  # nobody starves: it ends when each has had it
            if chance.random() < 0.2:
                if not lock.acquire(timeout=chance.random() / 1000):
                    continue
            elif chance.random() < 0.2:
                if not lock.acquire(False):
                    continue
            else:
                lock.acquire()
            total[0] += 1  # not atomic: only the lock protects it
            own[me] += 1
            lock.release()
            repr(lock)

    storm(work)
    assert total[0] == sum(own.values()) > 0
    assert len(own) == THREADS


def test_condition() -> None:
    condition, tokens, made, used = threading.Condition(), [0], [0], [0]

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        while go_on():
            with condition:
                if chance.random() < 0.5:
                    tokens[0] += 2
                    made[0] += 2
                    condition.notify(2) if chance.random() < 0.5 else condition.notify_all()
                elif condition.wait_for(lambda: tokens[0] > 0, chance.random() / 100):
                    tokens[0] -= 1
                    used[0] += 1

    storm(work)
    assert made[0] - used[0] == tokens[0]


def test_semaphore() -> None:
    semaphore, inside, worst = threading.Semaphore(3), threading.Semaphore(0), [0]

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        while go_on():
            if not semaphore.acquire(timeout=chance.random() / 500 if chance.random() < 0.5 else None):
                continue
            inside.release()
            worst[0] = max(worst[0], inside._value)
            assert inside.acquire(False)
            semaphore.release()

    storm(work)
    assert semaphore._value == 3
    assert 0 < worst[0] <= 3


def test_event() -> None:
    event, woken = threading.Event(), Counter()

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        while go_on():
            what = chance.random()
            if what < 0.3:
                event.set()
            elif what < 0.5:
                event.clear()
            else:
                woken[event.wait(chance.random() / 200)] += 1

    storm(work)
    assert woken[True] > 0


def test_barrier() -> None:
    barrier, rounds = threading.Barrier(THREADS), Counter()

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        try:
            while True:
                rounds[barrier.wait()] += 1
                if not go_on():
                    barrier.abort()
        except threading.BrokenBarrierError:
            pass

    storm(work)
    assert sum(rounds.values()) >= THREADS


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue])
@pytest.mark.parametrize("most", [0, 3])
def test_queues(kind, most: int) -> None:
    if kind is queue.SimpleQueue:
        if most:
            pytest.skip("has no limit")
        q = kind()
    else:
        q = kind(most)
    put, got = [Counter() for _ in range(THREADS)], [Counter() for _ in range(THREADS)]
    numbers = iter(range(THREADS))
    lock = plain.Lock()
    opens = threading.Timer(SECONDS / 2, lambda: getattr(q, "mutex", None))
    opens.start()

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        with lock:
            me = next(numbers)
        i = 0
        while go_on():
            try:
                if chance.random() < 0.5:
                    q.put((me, i), timeout=chance.random() / 300)
                    put[me][(me, i)] += 1
                    i += 1
                elif chance.random() < 0.8:
                    got[me][q.get(timeout=chance.random() / 300)] += 1
                else:
                    for item in q.get_many(5, timeout=chance.random() / 300):
                        got[me][item] += 1
            except (queue.Full, queue.Empty):
                pass

    storm(work)
    opens.join()
    rest = Counter()
    while not q.empty():
        rest[q.get()] += 1
    assert sum(put, Counter()) == sum(got, Counter()) + rest


def test_rwlock() -> None:
    lock, readers, writers = threading.RWLock(), threading.Semaphore(0), threading.Semaphore(0)

    def work(chance: random.Random, go_on: Callable[[], bool]) -> None:
        while go_on():
            if chance.random() < 0.7:
                with lock.read:
                    readers.release()
                    assert writers._value == 0
                    assert readers.acquire(False)
            else:
                with lock.write:
                    writers.release()
                    assert writers._value == 1
                    assert readers._value == 0
                    assert writers.acquire(False)

    storm(work)


def test_interrupts() -> None:
    """Waits of every kind, interrupted at random: each of them ends, and leaves the primitive as it was."""
    lock, condition, event, q = threading.Lock(), threading.Condition(), threading.Event(), queue.Queue()
    stop = plain.Event()
    ended = Counter()

    def wait(chance: random.Random) -> None:
        what = chance.randrange(4)
        if what == 0:
            with lock:
                time.sleep(0)
        elif what == 1:
            with condition:
                condition.wait(0.01)
        elif what == 2:
            event.wait(0.01)
        else:
            q.get(timeout=0.01)

    def victim(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            try:
                wait(chance)
                ended["done"] += 1
            except (Interrupted, queue.Empty) as error:
                ended[type(error).__name__] += 1

    def rounds() -> None:
        chance = random.Random(0)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            threads = [threading.Thread(target=victim, args=(seed,), daemon=True) for seed in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                chance.choice(threads).interrupt()
                q.put(1)
                time.sleep(0.001)
            stop.set()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()
            stop.clear()

    rounds()
    assert ended["Interrupted"] > 0
    assert condition.acquire(timeout=5)


def together(*functions: Callable[[], object]) -> None:
    threads = [plain.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS * 20 + 30)
        assert not thread.is_alive(), "a wake-up was lost"


def test_waits_without_limits_semaphore() -> None:
    """No time-out covers up a lost wake-up here."""
    there, back, rounds = threading.Semaphore(2), threading.Semaphore(0), int(5000 * SECONDS)

    def move(source: threading.Semaphore, target: threading.Semaphore) -> None:
        for _ in range(rounds):
            source.acquire()
            target.release()

    together(*[lambda: move(there, back), lambda: move(back, there)] * 3)
    assert (there._value, back._value) == (2, 0)


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_waits_without_limits_condition(kind) -> None:
    condition, turn, rounds = threading.Condition(kind()), [0], int(2000 * SECONDS)

    def play(me: int) -> None:
        for _ in range(rounds):
            with condition:
                while turn[0] % 3 != me:
                    condition.wait()
                turn[0] += 1
                condition.notify_all()

    together(*[lambda me=me: play(me) for me in range(3)])
    assert turn[0] == 3 * rounds


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue])
def test_waits_without_limits_queue(kind) -> None:
    q, rounds, got = kind(2), int(5000 * SECONDS), [0]

    def produce() -> None:
        for i in range(rounds):
            q.put(i)

    def consume() -> None:
        for _ in range(rounds):
            q.get()
        got[0] += 1

    together(*[produce, consume] * 4)
    assert q.empty()
    assert got[0] == 4
