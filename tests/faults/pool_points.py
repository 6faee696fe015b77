"""Workers of one pool, killed at named points of the core one after the other: who is blamed, and what is left.

    python pool_points.py RETRIES POINT:N ...

Needs a build with TREADLE_POINTS=1.  Prints a line for each: the point, "ok" or what is wrong, and what its task had
come to: "nobody" is blamed, or one whose function was "not called", was "called" or had "returned".
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from treadle import Pool, WorkerDied
from treadle.testing.leaks import no_leaks

SIZES = [0, 300_000, 10, 60_000, 100]  # bytes of arguments: in the store, in parts, and in one record
LARGER = 8  # times at most, so that memory of one size is to be made one of another
KEPT = 8 << 20  # bytes that an idle store may keep
PATIENCE = 20.0


class Log:
    """What tasks have come to, in a file to which all processes add."""

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, what: str, number: int) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, f"{what} {number} {os.getpid()} {time.monotonic()}\n".encode())
        finally:
            os.close(fd)

    def entries(self) -> list[tuple[str, int, int, float]]:
        lines = [line.split() for line in Path(self.path).read_text().splitlines()]
        return [(what, int(number), int(pid), float(when)) for what, number, pid, when in lines]


class Body:
    """Some bytes, large ones out of band."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Body, (pickle.PickleBuffer(self.data) if len(self.data) > 100_000 else bytes(self.data),)


def body(number: int, times: int = 1) -> Body:
    size = SIZES[number % len(SIZES)]
    return Body(bytes([number % 251]) * (size if size < 100_000 else times * size * (1 + number // 60 % LARGER)))


def result(number: int) -> Body:
    """Too large for the memory of the arguments."""
    return body(number, 3)


def same(value: object, other: Body) -> bool:
    return isinstance(value, Body) and memoryview(value.data) == memoryview(other.data)


def work(log: Log, number: int, given: Body) -> Body:
    log.add("begin", number)
    assert same(given, body(number)), "an argument is damaged"
    value = result(number)
    log.add("end", number)
    return value


def echo(number: int, given: Body) -> Body:
    return result(number)


def pause(log: Log, number: int, point: str) -> Body:
    """What is behind this one is taken back meanwhile."""
    log.add("begin", number)
    if point.startswith("lane.passed"):
        time.sleep(0.2)
    log.add("end", number)
    return result(number)


def arm(log: Log, number: int, point: str) -> Body:
    """From now on, the worker that runs this is killed at the point."""
    if not any(what == "armed" for what, *_ in log.entries()):  # or it is tried again
        os.environ["TREADLE_KILL_AT"] = point
        log.add("armed", number)
    return pause(log, number, point)


def await_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(fd):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), "nobody came by the point"


def submit_round(pool: Pool, log: Log, point: str, base: int) -> tuple[dict[int, Future], dict[int, float]]:
    """Many tasks, one of which arms the point in the first round; all of them have ended."""
    done: dict[int, float] = {}
    futures: dict[int, Future] = {}
    step = 1
    if point.startswith("lane.passed"):  # among short ones alone are many behind it, to be taken back
        step = len(SIZES)
        list(pool.map(abs, range(3000)))
    first = base + len(SIZES) - 1
    for number in range(first, first + 60 * step, step):
        if number == first + 20 * step:
            futures[number] = pool.submit(pause if base else arm, log, number, point)
        else:
            futures[number] = pool.submit(work, log, number, body(number))
        futures[number].add_done_callback(lambda _, n=number: done.setdefault(n, time.monotonic()))
    for future in futures.values():
        future.exception(PATIENCE)
    return futures, done


def try_point(pool: Pool, options: Any, point: str, path: str) -> str:
    Path(path).write_text("")
    log = Log(path)
    futures, done = submit_round(options, log, point, 0)
    pid = next(pid for what, _, pid, _ in log.entries() if what == "armed")
    for base in range(1000, 10_000, 300):  # it may not have had enough to do to come by
        if not os.path.exists(f"/proc/{pid}"):
            break
        more = submit_round(options, log, point, base)
        futures.update(more[0])
        done.update(more[1])
    await_end(pid)
    entries = log.entries()
    blamed = [(number, error) for number, future in futures.items() if (error := future.exception()) is not None]
    for number, future in futures.items():
        assert future.exception() is not None or same(future.result(), result(number)), (
            f"task {number} gave something else"
        )
    begun = Counter(number for what, number, _, _ in entries if what == "begin")
    mine = [(what, number) for what, number, who, _ in entries if who == pid]
    returned = {number for what, number in mine if what == "end"}
    called = {number for what, number in mine if what == "begin"}
    again = {number for number, times in begun.items() if times > 1}
    if options is not pool:
        assert not blamed, f"with retries: {blamed}"
        assert len(again) <= 1 and again <= {mine[-1][1]}, f"called again: {again}, last {mine[-1]}"
        return "tried again" if again else "nobody"
    assert not again, f"called twice: {again}"
    assert len(blamed) <= 1, f"blamed: {blamed}"
    if not blamed:
        return "nobody"
    ((number, error),) = blamed
    assert type(error) is WorkerDied and error.pid == pid and error.signal == signal.SIGKILL, repr(error)
    if number in called:
        assert mine[-1][1] == number, f"{number} is blamed, {mine[-1]} was the last"
    else:
        assert number not in begun, "its function was called elsewhere"
    if number in done:
        last = max(when for _, _, who, when in entries if who == pid)
        assert done[number] - last < 1.0 * max(1.0, os.getloadavg()[0]), f"{done[number] - last:.1f} s"
    return "returned" if number in returned else "called" if number in called else "not called"


def main(retries: int, points: list[str]) -> None:
    with no_leaks(), tempfile.NamedTemporaryFile() as file, Pool(2, engine="processes") as pool:
        options = pool.options(retries=retries) if retries else pool
        for point in points:
            try:
                print(point, "ok", try_point(pool, options, point, file.name), flush=True)
            except AssertionError as error:
                print(point, "wrong:", error, flush=True)
        store = pool._driver.engine._store
        until = time.monotonic() + PATIENCE
        while store.used() or store.trim() > KEPT:
            gc.collect()
            if time.monotonic() > until:
                print("memory", f"wrong: {store.used()} payloads, {store.trim()} bytes are left")
                break
            time.sleep(0.05)
        else:
            print("memory ok")
        del store


if __name__ == "__main__":
    import pool_points  # workers are to find these functions by name

    pool_points.main(int(sys.argv[1]), sys.argv[2:])
