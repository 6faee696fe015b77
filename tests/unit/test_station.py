"""A station by itself, spoken to as a cluster's process does it."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.pool import station
from treadle.pool.engines.guest import Order
from treadle.pool.functions import FunctionTable
from treadle.pool.payloads import encode_arguments
from treadle.pool.task import DIED


def twice(x: int) -> int:
    return 2 * x


def crash_at_five(x: int) -> int:
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def wait_for(path: str) -> None:
    """Say that it has begun, and go on until the file is there."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.001)


class Outpost:
    """The pool's side of a station."""

    def __init__(self) -> None:
        self.key = uuid.uuid4().hex, 1
        self._table = FunctionTable()
        self._blobs: dict[int, bytes] = {}
        self._seq = 0
        self._new = True

    def order(self, fn: Any, *args: Any) -> Order:
        self._seq += 1
        function = self._table.encode(fn)
        self._blobs[function.id] = function.blob
        return Order(self._seq, function.id, encode_arguments(args, None), 0)

    def exchange(self, *orders: Order) -> station.Reply:
        new, self._new = self._new, False
        functions = {order.function: self._blobs[order.function] for order in orders}
        return station.exchange(station.Request(self.key, station.Setup(), new, list(orders), functions, []))


@pytest.fixture
def outpost() -> Iterator[Outpost]:
    made = Outpost()
    yield made
    station.close(made.key[0])


def test_what_is_in_stock_behind_a_long_call_can_be_had_back(outpost: Outpost, tmp_path: Path) -> None:
    orders = [outpost.order(twice, n) for n in range(64)]  # from these it learns that calls are short
    replies = [outpost.exchange(*orders)]
    while sum(len(reply.results) for reply in replies) < len(orders):
        replies.append(outpost.exchange())
    path = tmp_path / "go on"
    head, *behind = [outpost.order(wait_for, str(path)), *(outpost.order(twice, n) for n in range(6))]
    everything = [order.seq for order in (head, *behind)]

    def recall() -> None:
        while not Path(f"{path}.begun").exists():
            time.sleep(0.001)
        station.recall(outpost.key, everything, False)

    asking = threading.Thread(target=recall)
    asking.start()
    reply = outpost.exchange(head, *behind)
    asking.join()
    # While the head runs: nothing else could have ended the exchange, but that it had waited for too long.
    assert (reply.results, sorted(reply.given_back)) == ([], everything[1:])
    path.touch()
    reply = outpost.exchange()
    assert ([result[0] for result in reply.results], reply.given_back) == ([head.seq], [])


def test_a_crash_costs_the_call_that_ran_and_none_of_the_stock(outpost: Outpost) -> None:
    orders = [outpost.order(crash_at_five, n) for n in range(64)]
    replies = [outpost.exchange(*orders)]
    while sum(len(reply.results) for reply in replies) < len(orders):
        replies.append(outpost.exchange())
    kinds = {result[0]: result[1] for reply in replies for result in reply.results}
    assert [kinds[order.seq] == DIED for order in orders] == [n == 5 for n in range(64)]


def test_a_recall_may_overtake_what_it_is_about(outpost: Outpost, tmp_path: Path) -> None:
    """Also before there is a station."""
    for first in (True, False):
        unwanted = outpost.order(wait_for, str(tmp_path / "never"))
        station.recall(outpost.key, [unwanted.seq], True)
        reply = outpost.exchange(unwanted)
        if first:  # that exchange only says who they are
            assert not reply.given_back
            reply = outpost.exchange()
        assert reply.given_back == [unwanted.seq] and not reply.results
    assert not (tmp_path / "never.begun").exists()
    wanted = outpost.order(twice, 4)
    replies = [outpost.exchange(wanted), outpost.exchange()]
    assert [result[0] for reply in replies for result in reply.results] == [wanted.seq]
