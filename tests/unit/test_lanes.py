"""The lane between a pool's parent and a worker, with both ends in this process; and the store of large payloads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest

from treadle._native import _core
from treadle.pool import failures, worker
from treadle.pool.payloads import decode_arguments, encode_arguments, loads
from treadle.pool.task import RAISED_PACKED, RETURNED, RETURNED_PACKED, Call, Task
from treadle.pool.transport import base as wire
from treadle.pool.transport.channel import Channel

STOP = (wire.STOP, 0, 0, 0, b"")


class Function:
    def __init__(self, id: int) -> None:
        self.id = id


class Ends:
    """A channel, and a port on it."""

    def __init__(self) -> None:
        self.store = _core.Store()
        self.channel = Channel(self.store)
        self.lane = self.channel.lane
        lane, event, _ = self.channel.remote_fds
        self.port = _core.Port(lane, event, self.store)
        self.functions: dict[int, Any] = {}

    def task(self, function: Function, *args: Any) -> Task:
        payload = encode_arguments(args, None, self.store)
        return Task(Call(len, args, None, function, payload), None)

    def send(self, batch: list[tuple[int, Task]]) -> None:
        function = batch[0][1].call.function
        self.lane.introduce(function, function.id, None, 0, None)
        assert self.lane.send_tasks(batch, 0, 0) == len(batch)

    def serve(self) -> Any:
        def pack(fn: Any, value: Any) -> Any:
            return self.store.dumps(value)

        unloadable, enter, leave = worker._unloadable, lambda _: Context(), lambda _: None
        return self.port.serve(self.functions, pack, failures.pack, unloadable, enter, leave, list, False, abs)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.channel.close()
    vars(made).clear()  # the store ends with its last user


def test_frames_of_every_size_arrive_both_ways(ends: Ends) -> None:
    sizes = [0, 1, 31, 32, 33, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 1 << 20]
    frames = [(20 + i, i, 2 * i, 3 * i, bytes([i]) * size) for i, size in enumerate(sizes)]
    got: list[Any] = []

    def listen() -> None:
        got.extend(ends.serve() for _ in frames)

    thread = threading.Thread(target=listen)
    thread.start()
    ends.lane.send(frames)
    while thread.is_alive():
        ends.channel.hear()  # what did not fit is sent when there is room
        thread.join(0.001)
    assert got == frames

    back: list[Any] = []
    thread = threading.Thread(target=lambda: [ends.port.send(*frame) for frame in frames])
    thread.start()
    while thread.is_alive() or len(back) < len(frames):
        back += ends.lane.receive()[1]
    thread.join()
    assert back == frames


def test_plain_tasks_are_run_and_answered(ends: Ends) -> None:
    add = Function(7)
    ends.functions[7] = lambda a, b: a + b
    ends.send([(i, ends.task(add, i, 1)) for i in range(1, 400)])
    ends.send([(400, ends.task(add, 1, "x")), (401, ends.task(add, {1}.union, 2))])
    ends.lane.send([STOP])
    assert ends.serve() == STOP
    results, frames = ends.lane.receive()
    assert frames == [] and ends.lane.last == 401
    assert [(seq, kind, data) for seq, kind, data, _, _ in results[:399]] == [
        (i, RETURNED, i + 1) for i in range(1, 400)
    ]
    assert [(seq, kind) for seq, kind, _, _, _ in results[399:]] == [(400, RAISED_PACKED), (401, RAISED_PACKED)]
    assert isinstance(failures.restore(results[399][2])[0], TypeError)


def test_revoked_tasks_are_passed_over(ends: Ends) -> None:
    fn = Function(1)
    ends.functions[1] = lambda x: x
    ends.send([(1, ends.task(fn, 1))])
    ends.lane.send([STOP])
    ends.serve()
    assert ends.lane.look()[0] == 1
    ends.send([(2, ends.task(fn, 2)), (3, ends.task(fn, 3))])
    ends.lane.send([STOP])
    assert ends.lane.revoke() == 1
    ends.serve()
    ends.lane.restore()
    ends.send([(4, ends.task(fn, 4))])
    ends.lane.send([STOP])
    ends.serve()
    results, frames = ends.lane.receive()
    assert [seq for seq, *_ in results] == [1, 4]
    assert [(kind, seq) for kind, seq, *_ in frames] == [(wire.SKIPPED, 2), (wire.SKIPPED, 3)]


def test_the_worker_signals_only_who_has_asked(ends: Ends) -> None:
    ends.lane.receive()
    ends.port.send(30, 1, 0, 0, b"")
    assert os.eventfd_read(ends.channel.fd) == 1
    ends.port.send(30, 2, 0, 0, b"")
    with pytest.raises(BlockingIOError):
        os.eventfd_read(ends.channel.fd)
    assert [frame[1] for frame in ends.lane.receive()[1]] == [1, 2]
    ends.port.send(30, 3, 0, 0, b"")
    assert os.eventfd_read(ends.channel.fd) == 1


def test_large_payloads_are_stored_once_and_given_back(ends: Ends) -> None:
    big = bytearray(b"x" * 1_000_000)
    for _ in range(5):
        payload = ends.store.dumps((big,))
        assert isinstance(payload, _core.Parcel) and len(payload) > 1_000_000
        assert ends.store.used() == 1
        assert loads(payload) == (big,)
        del payload
        assert ends.store.used() == 0

    echo = Function(1)
    ends.functions[1] = lambda x: x
    batch = [(1, ends.task(echo, big))]  # the pool holds a task until it has ended
    ends.send(batch)
    ends.lane.send([STOP])
    ends.serve()
    ((_, kind, data, _, _),) = ends.lane.receive()[0]
    assert kind == RETURNED_PACKED, failures.restore(data)[2]
    assert loads(data) == big
    del data, batch
    assert ends.store.used() == 0


def test_arguments_that_may_be_needed_again_are_copied(ends: Ends) -> None:
    payload = encode_arguments((b"y" * 1_000_000,), None, ends.store)
    for _ in range(2):
        (value,), kwargs = decode_arguments(payload)
        assert value == b"y" * 1_000_000 and kwargs == {}
    assert ends.store.used() == 1
    del payload
    assert ends.store.used() == 0


def test_what_a_lane_is_not(ends: Ends) -> None:
    with pytest.raises(OSError, match=r"[Dd]evice|argument"):
        _core.Port(ends.channel.fd, ends.channel.fd, ends.store)
    with pytest.raises(TypeError):
        ends.lane.send([(1, 2, 3, 4, "text")])  # type: ignore[list-item]
