"""Descriptors of a pool: nobody uses the number of one that was closed, which may be another file's by then."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

import treadle
from treadle.pool import reactor as reactor_module
from treadle.pool.driver import Driver
from treadle.pool.engines import processes
from treadle.pool.engines.processes import ProcessEngine
from treadle.pool.launch import nursery as nursery_module
from treadle.pool.launch import packets
from treadle.pool.launch.nursery import Nursery
from treadle.pool.reactor import Reactor
from treadle.pool.reports import Receiver, Sender


def engine_of(pool: treadle.Pool) -> ProcessEngine:
    engine = pool.driver.engine
    assert isinstance(engine, ProcessEngine)
    return engine


def test_who_wakes_a_reactor_that_ends_writes_into_no_other_file(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.eventfd_write
    others: list[int] = []

    def late(fd: int, value: int) -> None:
        """Before this thread gets to its write, the reactor has ended, and its number is free."""
        monkeypatch.setattr(reactor_module.os, "eventfd_write", write)
        reactor._signalled = False
        reactor.stop()
        reactor.join(20)
        others.extend(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(8))
        write(fd, value)

    monkeypatch.setattr(reactor_module.os, "eventfd_write", late)
    try:
        reactor.call_soon(lambda: None)
        assert len(others) == 8
        for fd in others:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(fd)
    finally:
        for fd in others:
            os.close(fd)


class Events:
    """An epoll object that says what it was told to."""

    def __init__(self, *batches: list[tuple[int, int]]) -> None:
        self._batches = list(batches)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return self._batches.pop(0)


def test_an_event_of_a_closed_descriptor_says_nothing_of_the_next_one_with_its_number() -> None:
    """A worker lives, and a pool has sent nothing: neither is waited for."""
    control, theirs = packets.pair()
    pool, pools = packets.pair()
    with contextlib.closing(control), contextlib.closing(theirs), contextlib.closing(pool), contextlib.closing(pools):
        process = subprocess.Popen(["sleep", "60"])
        pidfd = os.pidfd_open(process.pid)
        try:
            nursery = Nursery(control, os.getppid())
            worker = nursery_module.Worker(1, process.pid, pidfd, pool.fileno())
            nursery._workers[pidfd], nursery._pools[pool.fileno()] = worker, pool
            nursery._epoll.close()
            stale = [(pidfd, select.EPOLLIN), (pool.fileno(), select.EPOLLIN)]
            nursery._epoll = Events([], [], stale, [(nursery._parent, select.EPOLLIN)])  # type: ignore[assignment]
            serving = threading.Thread(target=nursery.serve)
            serving.start()
            serving.join(20)
            waits = serving.is_alive()
            assert nursery._workers == {pidfd: worker} and list(nursery._pools) == [pool.fileno()]
            assert not waits
        finally:
            process.kill()
            process.wait()
            pools.close()
            os.close(pidfd)
            os.close(nursery._parent)


def test_nothing_is_sent_to_the_number_of_a_worker_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with treadle.Pool(1, "processes") as pool:
        assert pool.submit(abs, -1).result() == 1
        engine = engine_of(pool)
        (worker,) = engine._processes
        process = engine._processes[worker]
        pid = process.pid
        assert pid is not None
        ended = gone(pool, monkeypatch)
        os.kill(pid, signal.SIGKILL)
        assert ended() == (worker, None), "it was idle: that it had run something before is nobody's blame"
        sent: list[int] = []
        monkeypatch.setattr(processes.os, "kill", lambda pid, number: sent.append(pid))
        monkeypatch.setattr(processes.signal, "pidfd_send_signal", lambda fd, number: sent.append(fd))
        engine._signal(process, signal.SIGTERM)
        engine.send_signal(worker, signal.SIGTERM)
        monkeypatch.undo()
    assert sent == [] and process.pidfd == -1


def gone(pool: treadle.Pool, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int | None]]:
    """What waits for the next worker's end: its number, and what it was running."""
    told = threading.Event()
    found: list[tuple[int, int | None]] = []
    ended = Driver.ended

    def note(self: Driver, worker: int, running: int | None, *how: Any) -> None:
        ended(self, worker, running, *how)
        if self is pool.driver:
            found.append((worker, running))
            told.set()

    monkeypatch.setattr(Driver, "ended", note)

    def wait() -> tuple[int, int | None]:
        assert told.wait(20)
        return found[0]

    return wait


class Listener:
    """Notes which workers have ended."""

    plate = 0

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def ended(self, worker: int, running: int | None, exit: Any, reason: Any) -> None:
        self.ends.append((worker, str(reason)))


class Launcher:
    """Starts nothing."""

    def __init__(self, launch: Callable[[int], None] = lambda worker: None) -> None:
        self._launch = launch

    def launch(self, worker: int, fds: tuple[int, ...]) -> None:
        self._launch(worker)

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


def test_a_worker_that_is_gone_before_its_launch_returns(reactor: Reactor) -> None:
    listener = Listener()
    engine = ProcessEngine(listener, reactor)  # type: ignore[arg-type]
    engine._launcher = Launcher(lambda worker: engine._gone(worker, 1, ""))
    engine.start(1)
    assert [worker for worker, _ in listener.ends] == [1]
    assert engine._reports is not None
    assert set(reactor._handlers) == {engine._reports.fd}
    engine.close()
    assert not reactor._handlers


def test_two_workers_that_start_at_once_share_a_pipe_for_reports(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    made: list[Receiver] = []

    def make(handlers: Any) -> Receiver:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # until the other one makes one, too
        made.append(Receiver(handlers))
        return made[-1]

    monkeypatch.setattr(processes, "Receiver", make)
    engine = ProcessEngine(Listener(), reactor)  # type: ignore[arg-type]
    engine._launcher = Launcher()
    threads = [threading.Thread(target=engine.start, args=(worker,)) for worker in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    engine.close()
    assert len(made) == 1 and made[0].fd == -1
    engine.start(3)
    assert len(made) == 1, "a closed engine opens nothing"


def test_a_pipe_of_reports_is_not_closed_under_who_reads_it() -> None:
    inside, go_on = threading.Event(), threading.Event()
    closing = threading.Event()

    def handler(message: bytes) -> None:
        inside.set()
        assert go_on.wait(20)

    receiver = Receiver({1: handler})
    fd = receiver.fd
    sender = Sender.open(receiver.place)
    assert sender is not None and sender.send(1, b"x")
    os.close(sender._fd)
    reader = threading.Thread(target=receiver.drain)
    reader.start()
    assert inside.wait(20)

    def close() -> None:
        receiver.close()
        closing.set()

    closer = threading.Thread(target=close)
    closer.start()
    assert not closing.wait(0.2)
    os.fstat(fd)
    go_on.set()
    reader.join(20)
    closer.join(20)
    assert receiver.fd == -1


def test_a_handler_may_close_the_pipe_that_it_was_called_from() -> None:
    receiver = Receiver({1: lambda message: receiver.close()})
    sender = Sender.open(receiver.place)
    assert sender is not None and sender.send(1, b"x")
    os.close(sender._fd)
    receiver.drain()
    assert receiver.fd == -1
