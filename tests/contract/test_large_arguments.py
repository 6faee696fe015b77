"""On a cluster, what is large and comes again travels once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cluster_work
import contract_work as work
import pytest
from engine_work import engines

import treadle
from treadle.pool.clusters import large
from treadle.pool.engines.guest import Order
from treadle.pool.payloads import decode_arguments, encode_arguments, put_back, take_out

DATA = b"x" * (3 << 20)


class Traffic:
    """What a pool has sent to its cluster."""

    def __init__(self) -> None:
        self.kept = 0  # bytes put to the cluster once
        self.sent = 0  # bytes in calls


@pytest.fixture
def pool(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[treadle.Pool, Traffic]]:
    """A pool of two workers, of which all that it sends is counted."""
    with treadle.Pool(2, engine=name, address=cluster_work.address[name]) as pool:
        traffic = Traffic()
        engine = pool.driver.engine.guest  # type: ignore[attr-defined]
        carry = engine.carry

        def counted(seat: Any, request: Any, large: dict[int, bytes]) -> None:
            traffic.sent += sum(len(order.payload) for order in request.orders)
            traffic.sent += sum(map(len, request.functions.values()))
            carry(seat, request, large)

        engine.carry = counted
        if name == "dask":
            scatter = engine._client._scatter

            async def scattered(blob: bytes, **how: Any) -> Any:
                traffic.kept += len(blob)
                return await scatter(blob, **how)

            engine._client._scatter = scattered
        else:
            import ray

            put = ray.put

            def kept(blob: bytes) -> Any:
                traffic.kept += len(blob)
                return put(blob)

            monkeypatch.setattr(ray, "put", kept)
        yield pool, traffic


@pytest.mark.parametrize("name", engines("dask", "ray"))
def test_what_comes_again_travels_once(pool: tuple[treadle.Pool, Traffic]) -> None:
    pool_, traffic = pool
    size = len(DATA)
    assert list(pool_.map(cluster_work.size, [DATA] * 200, range(200))) == [size + x for x in range(200)]
    assert size <= traffic.kept < 1.1 * size and traffic.sent < 1.1 * size  # 600 MB would be without
    for x in range(3):
        assert pool_.submit(work.echo, x, data=DATA).result(30) == ((x,), {"data": DATA})
    assert traffic.kept < 1.1 * size and traffic.sent < 1.1 * size  # the same again, as a keyword, and from submit
    # A function that holds it.
    assert list(pool_.map(lambda x, data=DATA: len(data) + x, range(100))) == [size + x for x in range(100)]
    assert traffic.kept < 2.2 * size and traffic.sent < 1.2 * size


@pytest.mark.parametrize("name", engines("dask", "ray"))
def test_what_was_changed_is_another(pool: tuple[treadle.Pool, Traffic]) -> None:
    pool_, traffic = pool
    data = bytearray(DATA)
    for n in range(5):
        data[0] = n
        seen = [pool_.submit(first, data).result(30) for _ in range(3)]
        assert seen == [n] * 3
    assert traffic.kept < 5.5 * len(DATA)


def first(data: bytearray) -> int:
    data[0] += 1  # what a call does to its own is not seen by the next
    return data[0] - 1


@pytest.mark.parametrize("name", engines("dask", "ray"))
def test_each_its_own_is_not_kept(pool: tuple[treadle.Pool, Traffic]) -> None:
    pool_, traffic = pool
    each = (bytes([n]) * (2 << 20) for n in range(40))
    assert list(pool_.map(len, each)) == [2 << 20] * 40
    assert traffic.kept < 5 * (2 << 20)  # only what was taken back from one worker and given to another


def test_apart_and_together_again() -> None:
    args, kwargs = (1, DATA, ["small"]), {"big": [DATA, 2], "small": None}
    blob = encode_arguments(args, kwargs)
    rest, apart = take_out(blob, large.LARGE)
    assert len(rest) < 1000 and len(apart) == 2
    assert decode_arguments(put_back(rest, apart)) == (args, kwargs)
    assert take_out(encode_arguments((1, "x"), None), large.LARGE)[1] == []


def test_how_much_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE", 1000)
    monkeypatch.setattr(large, "SEEN", 8)
    monkeypatch.setattr(large, "NUMBERED_BYTES", 5000)
    known = large.LargeArguments()

    def send(n: int) -> bool:
        (order,), apart = known.take_out([Order(1, 1, encode_arguments((b"%d" % n + b"x" * 2000,), None), 0)])
        return bool(order.apart) and list(order.apart) == list(apart)

    assert [send(1), send(1), send(1)] == [False, True, True]
    for n in range(2, 100):
        assert [send(n), send(n)] == [False, True]
    assert len(known._seen) <= 8 and sum(len(each.blob) for each in known._numbered.values()) <= 5000
    assert send(1) is False  # it was forgotten, and begins anew
    loads_nowhere = Order(1, 1, encode_arguments((Refuses(), b"x" * 2000), None), 0)
    assert known.take_out([loads_nowhere]) == ([loads_nowhere], {})


class Refuses:
    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> None:
    raise ValueError("not here")
