"""Four producers and four consumers of one queue, each killed at random moments and replaced.

    python ring_storm.py KILLS get|take MAXSIZE SEED

get: every message that was put before its producer's kill, and is not in the hands of a killed consumer, arrives once.
take: every message that was put before its producer's kill arrives, whatever happens to consumers.
Both: whole, and in each producer's order (with take: but for those that came back).
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import struct
import sys
import threading
import time
from typing import Any

from treadle.queues.shared import Queue

FORK = multiprocessing.get_context("fork")
CREW = 4
STUCK_SECONDS = 10
LINE = struct.Struct("<IIIIB")  # consumer, producer, its incarnation, number, whole
put_counts = mmap.mmap(-1, 4096)


def counter(producer: int) -> memoryview:
    """How many messages this producer has put since it started; survives it."""
    return memoryview(put_counts)[producer * 8 : producer * 8 + 8].cast("Q")


def body(producer: int, number: int) -> bytes:
    base = producer * 1_000_003 + number
    size = 20_000 + base % 50_000 if number % 7 == 0 else base % 300
    return bytes([base % 256]) * size


def produce(q: Queue[Any], producer: int, incarnation: int) -> None:
    count = counter(producer)
    for number in range(1 << 31):
        q.put((producer, incarnation, number, body(producer, number)))
        count[0] = number + 1


def consume(q: Queue[Any], consumer: int, log: int, receipts: bool) -> None:
    while True:
        if receipts:
            with q.take() as item:
                note(log, consumer, *item.value)
        else:
            note(log, consumer, *q.get())


def note(log: int, consumer: int, producer: int, incarnation: int, number: int, data: bytes) -> None:
    os.write(log, LINE.pack(consumer, producer, incarnation, number, data == body(producer, number)))


class Storm:
    def __init__(self, receipts: bool, maxsize: int) -> None:
        self.q: Queue[Any] = Queue(maxsize, max_attempts=None)
        self.receipts = receipts
        self.reading, self.writing = os.pipe()
        self.lines: list[tuple[int, int, int, int, int]] = []
        self.reader = threading.Thread(target=self.read)
        self.incarnations = [0] * CREW
        self.put: dict[tuple[int, int], int] = {}  # (producer, incarnation): how many
        self.consumer_kills = 0
        self.generation = 0
        self.producers = [self.producer(i) for i in range(CREW)]
        self.consumers = [self.consumer() for _ in range(CREW)]
        self.reader.start()

    def read(self) -> None:
        data = b""
        while part := os.read(self.reading, 1 << 16):
            data += part
            whole = len(data) // LINE.size * LINE.size
            self.lines += LINE.iter_unpack(data[:whole])
            data = data[whole:]

    def producer(self, which: int) -> Any:
        counter(which)[0] = 0
        process = FORK.Process(target=produce, args=(self.q, which, self.incarnations[which]), daemon=True)
        process.start()
        return process

    def consumer(self) -> Any:
        self.generation += 1
        arguments = (self.q, self.generation, self.writing, self.receipts)
        process = FORK.Process(target=consume, args=arguments, daemon=True)
        process.start()
        return process

    def kill(self, process: Any) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def kill_producer(self, which: int) -> None:
        self.kill(self.producers[which])
        self.put[which, self.incarnations[which]] = counter(which)[0]
        self.incarnations[which] += 1

    def kill_one(self, chance: random.Random) -> None:
        which = chance.randrange(CREW)
        if chance.random() < 0.5:
            self.kill_producer(which)
            self.producers[which] = self.producer(which)
        else:
            self.kill(self.consumers[which])
            self.consumer_kills += 1
            self.consumers[which] = self.consumer()

    def must_go_on(self, ready: Any, what: str) -> None:
        until = time.monotonic() + STUCK_SECONDS
        while not ready():
            assert time.monotonic() < until, f"{what}: {self.q!r} {self.q._insides()}"
            time.sleep(0.005)

    def run(self, kills: int, chance: random.Random) -> None:
        for turn in range(kills):
            time.sleep(chance.random() * 0.02)
            self.kill_one(chance)
            if turn % 20 == 19:
                before = len(self.lines)
                self.must_go_on(lambda before=before: len(self.lines) > before, "stuck")
        for which in range(CREW):
            self.kill_producer(which)
        # What a producer that was killed had filled and not published is freed by who puts next.
        self.q.put((CREW, 0, 0, body(CREW, 0)))
        self.put[CREW, 0] = 1
        while not self.q.empty():
            before = len(self.lines)
            self.must_go_on(lambda before=before: len(self.lines) > before or self.q.empty(), "not drained")
        if self.receipts:  # what the last killed ones held comes back, and what the living hold is let go
            self.must_go_on(lambda: self.q.empty() and self.q._insides()["used"] == 0, "held")
        time.sleep(0.3)
        for process in self.consumers:
            self.kill(process)
            self.consumer_kills += 1
        os.close(self.writing)
        self.reader.join()
        os.close(self.reading)

    def check(self) -> None:
        got: dict[tuple[int, int], list[int]] = {}
        last: dict[tuple[int, int, int], int] = {}
        backwards = 0
        for consumer, producer, incarnation, number, whole in self.lines:
            assert whole, "a message is damaged"
            got.setdefault((producer, incarnation), []).append(number)
            if number < last.get((consumer, producer, incarnation), -1):
                backwards += 1
            last[consumer, producer, incarnation] = number
        twice = sum(len(numbers) - len(set(numbers)) for numbers in got.values())
        lost = sum(len(set(range(count)) - set(got.get(key, ()))) for key, count in self.put.items())
        print(f"{len(self.lines)} messages, {twice} twice, {lost} lost, {backwards} back, {self.consumer_kills} kills")
        limit = self.consumer_kills if self.receipts else 0
        assert twice <= limit
        assert backwards <= limit
        assert lost <= (0 if self.receipts else self.consumer_kills)


def main() -> None:
    kills, how, maxsize, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    storm = Storm(how == "take", maxsize)
    try:
        storm.run(kills, random.Random(seed))
    except BaseException:
        for process in [*storm.producers, *storm.consumers]:
            process.kill()
        os._exit(print(__import__("traceback").format_exc()) or 1)
    storm.check()


if __name__ == "__main__":
    main()
