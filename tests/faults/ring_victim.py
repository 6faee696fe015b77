"""A process that is killed at a named point of the ring, among others that live on.

    python ring_victim.py POINT:N

The victim puts, gets, takes, sends, grows and shuts down, and is killed when it comes to the point for the N-th time.
Then: what was put and is not in the victim's hands arrives once, whole and in order, and the queue stays usable.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import time
from queue import Empty, Full

from treadle._native._core import Segment
from treadle.queues.shared import JoinableQueue, Queue

FORK = multiprocessing.get_context("fork")
SIZES = [10, 3000, 20_000, 8000, 300_000, 100]
LIVE, VICTIM = 1, 2
PUT, GOT, TAKING = 1, 2, 3
LOG = struct.Struct("<BBI")


def body(who: int, number: int) -> pickle.PickleBuffer | bytes:
    size = SIZES[number % len(SIZES)]
    data = bytes([who * 60 + number % 60]) * size
    return pickle.PickleBuffer(data) if size == 300_000 else data


def whole(who: int, number: int, data: object) -> bool:
    return bytes(memoryview(data)) == bytes(memoryview(body(who, number)))  # type: ignore[arg-type]


def produce(q: JoinableQueue, stop: object, report: object) -> None:
    """Until told to stop."""
    number = 0
    while not stop.is_set():
        with contextlib.suppress(Full):
            q.put((LIVE, number, body(LIVE, number)), timeout=0.05)
            number += 1
    report.send(number)


def consume(q: JoinableQueue, report: object) -> None:
    """Until None comes."""
    got = []
    while (item := q.get(timeout=30)) is not None:
        got.append((item[0], item[1]))
        assert whole(*item), "an item is damaged"
        q.task_done()
    report.send(got)


def victim(q: JoinableQueue, log: int, point: str) -> None:
    """All that a process can do with a queue, again and again."""
    number = 0
    own: Queue[object] = Queue(2)
    deep: Queue[object] = Queue()

    def note(what: int, who: int, which: int) -> None:
        os.write(log, LOG.pack(what, who, which))

    os.environ["TREADLE_KILL_AT"] = point
    for turn in range(40):
        for _ in range(6):
            with contextlib.suppress(Full):
                q.put((VICTIM, number, body(VICTIM, number)), timeout=1)
                note(PUT, VICTIM, number)
                number += 1
        for _ in range(3):
            with contextlib.suppress(Empty):
                who, which, data = q.get(timeout=0.02)
                note(GOT, who, which)
                assert whole(who, which, data)
                q.task_done()
        with contextlib.suppress(Empty, KeyError):
            with q.take(timeout=0.02) as item:
                who, which, data = item.value
                note(TAKING, who, which)
                if turn % 2:
                    raise KeyError
            note(GOT, who, which)
        with contextlib.suppress(Full):
            q.put((VICTIM, number, body(VICTIM, number)), timeout=1)
            note(PUT, VICTIM, number)
            number += 1
        # Alone: waits that end in time, chunks and extents that come and go, sending, growing, shutting down.
        with contextlib.suppress(Empty):
            own.get(timeout=0.001)
        own.put(1)
        own.put(2)
        with contextlib.suppress(Full):
            own.put(3, timeout=0.001)
        own.get()
        own.get()
        for _ in range(400):
            deep.put(b"x" * 8000)
        for size in (30_000_000, 20_000, 90_000_000):
            deep.put(b"x" * size)
        while not deep.empty():
            deep.get()
        deep.close()
        deep = pickle.loads(pickle.dumps(deep))
        segment = Segment(100)
        segment.grow(100_000)
        end: Queue[object] = Queue()
        end.put(b"x" * 20_000)
        end.shutdown(immediate=True)


def read_log(log: int) -> list[tuple[int, int, int]]:
    data = b""
    while part := os.read(log, 1 << 16):
        data += part
    return list(LOG.iter_unpack(data[: len(data) // LOG.size * LOG.size]))


def main(point: str) -> None:
    q: JoinableQueue = JoinableQueue(20, max_attempts=None)
    stop = FORK.Event()
    live_end, live_report = FORK.Pipe()
    consumer_end, consumer_report = FORK.Pipe()
    producer = FORK.Process(target=produce, args=(q, stop, live_report), daemon=True)
    consumer = FORK.Process(target=consume, args=(q, consumer_report), daemon=True)
    producer.start()
    consumer.start()
    reading, writing = os.pipe()  # only now: its end is the victim's end
    doomed = FORK.Process(target=victim, args=(q, writing, point), daemon=True)
    doomed.start()
    os.close(writing)
    doomed.join(60)
    assert doomed.exitcode == -signal.SIGKILL, f"the point was not reached: {doomed.exitcode}"
    log = read_log(reading)
    # The others go on: each of them comes through several times the queue's size.
    for _ in range(60):
        q.put((LIVE + 2, 0, body(LIVE + 2, 0)), timeout=10)
    stop.set()
    assert live_end.poll(20), "the producer hangs"
    live = live_end.recv()
    began = time.monotonic()
    while not q.empty():
        assert time.monotonic() - began < 20, "the consumer hangs"
        time.sleep(0.01)
    time.sleep(0.3)  # a message that the victim had taken comes back within that time
    q.put(None)
    assert consumer_end.poll(20), "the consumer hangs"
    by_consumer = consumer_end.recv()
    for process in (producer, consumer):
        process.join(10)
        assert process.exitcode == 0

    taking = {(who, which) for what, who, which in log if what == TAKING}
    finished = [(who, which) for what, who, which in log if what == GOT]
    others = [item for item in by_consumer if item[0] != LIVE + 2]
    assert len(by_consumer) - len(others) + sum(who == LIVE + 2 for who, _ in finished) == 60
    everything = others + [item for item in finished if item[0] != LIVE + 2]
    assert len(everything) - len(set(everything)) <= 1, "an item came twice"
    assert len(set(everything)) == len(everything) or set(finished[-1:]) & taking, "an item came twice"
    put = {(LIVE, n) for n in range(live)} | {(VICTIM, n) for what, who, n in log if what == PUT}
    missing = put - set(everything)
    assert len(missing) <= 1, f"lost: {sorted(missing)}"
    in_order = [which for who, which in others if who == LIVE and (who, which) not in taking]
    # Killed between taking one and saying so: that one came back later than the next ones.
    back = [at for at, (one, after) in enumerate(itertools.pairwise(in_order)) if one > after]
    for at in back[:1]:
        del in_order[at + 1]
    assert in_order == sorted(in_order)
    assert q.qsize() == 0
    # What the victim had, whatever it was, is found by who asks for much memory.
    began = time.monotonic()
    while (left := q._insides())["used"] > 0:
        assert time.monotonic() - began < 5, left
        q.put(b"x" * 2_000_000)
        assert len(q.get(timeout=5)) == 2_000_000
        q.task_done()
    print("ok", point, len(everything), "missing", len(missing))


if __name__ == "__main__":
    main(sys.argv[1])
