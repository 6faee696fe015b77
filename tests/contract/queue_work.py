"""What the processes of the tests of process queues run; importable, so that it can be pickled."""

from __future__ import annotations

import os
import signal


def put_all(q, items) -> None:
    for item in items:
        q.put(item)


def put_numbered(q, which: int, count: int) -> None:
    for i in range(count):
        q.put((which, i))


def get_and_return(q, back, count: int) -> None:
    for _ in range(count):
        back.put(q.get(timeout=20))


def work_and_count(q, back) -> None:
    """Until None comes."""
    while (item := q.get()) is not None:
        back.put(item)
        q.task_done()
    q.task_done()


def answer(there, back) -> None:
    for item in iter(there.get, "the end"):
        back.put(item)


def send_on(q, carrier) -> None:
    """A child that makes nothing and gives the queue to its sibling."""
    carrier.put(q)


def receive_and_put(carrier, item) -> None:
    carrier.get(timeout=20).put(item)


def take_and_die(q, started) -> None:
    with q.take() as item:
        started.put(item.attempt)
        os.kill(os.getpid(), signal.SIGKILL)


def put_and_die(q, item) -> None:
    q.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


class Stubborn:
    """Can't be pickled."""

    def __reduce__(self):
        raise ZeroDivisionError("not me")


def refuse(*args):
    raise LookupError("not here")


class Poison:
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return refuse, (1,)


class Plain:
    """An ordinary object."""

    def __init__(self, value) -> None:
        self.value = value

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.value == other.value

    __hash__ = None
