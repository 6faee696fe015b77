"""A worker thread's inbox: nothing that is sent gets lost or changes places, whether the thread sleeps or works."""

from __future__ import annotations

import random
import threading
import time

from treadle._native import _core


def test_in_the_order_in_which_it_was_sent() -> None:
    seat = _core.Seat()
    things = [object() for _ in range(50)]
    for thing in things:
        seat.put(thing)
    assert [seat.get() for _ in things] == things


def test_many_send_and_the_thread_sleeps_in_between() -> None:
    seat, got, count = _core.Seat(), [], 2000

    def receive() -> None:
        while (thing := seat.get()) is not None:
            got.append(thing)

    def send(number: int) -> None:
        pauses = random.Random(number)
        for i in range(count):
            seat.put((number, i))
            if pauses.random() < 0.05:
                time.sleep(pauses.random() * 2e-4)  # so that it sometimes finds nothing, and sleeps

    receiver = threading.Thread(target=receive)
    senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in (receiver, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    seat.put(None)
    receiver.join()
    assert len(got) == 4 * count
    for number in range(4):
        assert [i for n, i in got if n == number] == list(range(count))
