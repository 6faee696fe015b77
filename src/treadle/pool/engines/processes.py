"""Processes of this machine: for work that computes, and for work that may crash."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from .. import busy
from .. import worker as worker_module
from ..cpus import available_cpus
from ..failures import Exit
from ..functions import FUNCTIONS_KEPT, Function, FunctionTable
from ..launch.base import START_METHODS, Launcher
from ..launch.client import NurseryLauncher
from ..launch.fork import ForkLauncher
from ..payloads import encode_arguments
from ..reactor import Reactor
from ..state import Result
from ..task import RAISED_PACKED, RETURNED_PACKED, Call, Task
from ..transport import base as wire
from ..transport.page import CALLED, CPU, CURRENT, QUEUED, SINCE, Page
from ..transport.pipes import PipeChannel
from .base import Listener, Look, Memo

REVOKE_PAUSE = 0.001  # seconds; see Page.may_start
BURY_SECONDS = 1.0  # to wait for the end of a process that was sent SIGKILL
STOP_PATIENCE = 0.05  # seconds to wait for a stopped process to stand still

_KINDS = {wire.RETURNED: RETURNED_PACKED, wire.RAISED: RAISED_PACKED}


class _Process:
    """One worker process, as the engine sees it."""

    __slots__ = ("channel", "page", "pid", "pidfd", "killed", "last", "known", "lock")

    def __init__(self, channel: PipeChannel, page: Page) -> None:
        self.channel = channel
        self.page = page
        self.pid: int | None = None  # Invariant: None until the launcher says `started`
        self.pidfd = -1  # the same; both guarded by `lock`
        self.killed = False  # it is to be killed as soon as `pidfd` is known; guarded by `lock`
        self.last = 0  # the highest sequence number that it has reported
        self.known: OrderedDict[int, None] = OrderedDict()  # ids of the functions that it has, guarded by `lock`
        self.lock = threading.Lock()  # one sender at a time; rank: before the channel's


class ProcessEngine:
    """Workers that are processes, each with its own channel."""

    name = "processes"
    batches = True

    def __init__(self, listener: Listener, reactor: Reactor, start_method: str = "forkserver") -> None:
        if start_method not in START_METHODS:
            raise ValueError(f"start_method must be one of {', '.join(START_METHODS)}, not {start_method!r}")
        self._listener = listener
        self._reactor = reactor
        self.measure = False  # have workers measure the CPU time of each call
        self._functions = FunctionTable()
        self._processes: dict[int, _Process] = {}
        self._launcher: Launcher
        if start_method == "fork":
            self._launcher = ForkLauncher(reactor, self._started, self._gone)
        else:
            self._launcher = NurseryLauncher(reactor, start_method, self._started, self._gone)

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        function = memo.get("function") if memo is not None else None
        if function is None:
            function = self._functions.encode(fn)
            if memo is not None:
                memo["function"] = function
        return Call(fn, args, kwargs, function, encode_arguments(args, kwargs))

    def default_workers(self) -> int:
        return available_cpus()

    def start(self, worker: int) -> None:
        try:
            self._launch(worker)
        except Exception as error:  # no descriptors left, no memory: report it as the end of a worker that never was
            self._discard(worker)
            self._listener.ended(worker, None, Exit(None, None), str(error))

    def _launch(self, worker: int) -> None:
        channel = PipeChannel(self._reactor)
        try:
            page, page_fd = Page.create()
        except OSError:
            channel.close()
            raise
        process = _Process(channel, page)
        self._processes[worker] = process
        try:
            self._launcher.launch(worker, (*channel.remote_fds, page_fd))
        finally:
            os.close(page_fd)
            channel.close_remote()
        channel.send([(wire.SETUP, 0, 0, 0, worker_module.environment())])
        self._reactor.add(channel.fd, lambda events: self._readable(worker))

    def _started(self, worker: int, pid: int, pidfd: int) -> None:
        process = self._processes.get(worker)
        if process is None:
            os.close(pidfd)
            return
        with process.lock:
            process.pid = pid
            process.pidfd = pidfd
            killed = process.killed
        if killed:
            self._signal(process, signal.SIGKILL)

    def _gone(self, worker: int, exitcode: int | None, reason: str) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        if exitcode is None or reason:
            self._bury(process)  # nobody has waited for it
        self._receive(worker, process)  # what it sent before its end counts
        running = process.page.words[CURRENT]
        pid = process.pid
        self._discard(worker)
        if not reason:
            reason = f"the process exits before it is ready, with code {exitcode}"
        self._listener.ended(worker, running or None, Exit(pid, exitcode), reason)

    def _bury(self, process: _Process) -> None:
        """See to it that it is really gone, before its tasks are given to others, and what it has started too."""
        if process.pidfd >= 0 and process.pid is not None:
            self._signal(process, signal.SIGKILL)
            poll = select.poll()
            poll.register(process.pidfd, select.POLLIN)
            poll.poll(BURY_SECONDS * 1000)
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

    def _readable(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None and not self._receive(worker, process):
            # End of file: its death is about to be reported, and there is nothing more to read.
            self._reactor.remove(process.channel.fd)

    def _receive(self, worker: int, process: _Process) -> bool:
        try:
            frames = process.channel.receive()
        except MemoryError:
            self._signal(process, signal.SIGKILL)
            return False
        if not frames:
            return not process.channel.at_end
        results: list[Result] = []
        skipped: list[int] = []
        ready = False
        for kind, seq, wall, cpu, payload in frames:
            if kind == wire.READY:
                ready = True
            elif kind == wire.SKIPPED:
                skipped.append(seq)
            else:
                results.append((seq, _KINDS[kind], payload, wall, cpu))
                process.last = seq
        if ready:
            self._listener.ready(worker)
        if results:
            self._listener.finished(worker, results)
        if skipped:
            self._listener.skipped(worker, skipped)
        return not process.channel.at_end

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        frames: list[wire.Frame] = []
        known = process.known
        with process.lock:
            for seq, task in batch:
                call = task.call
                function: Function = call.function
                if function.id in known:
                    known.move_to_end(function.id)
                else:
                    frames.append((wire.FUNCTION, function.id, 0, 0, function.blob))
                    known[function.id] = None
                    if len(known) > FUNCTIONS_KEPT:
                        frames.append((wire.FORGET, known.popitem(last=False)[0], 0, 0, b""))
                assert call.payload is not None
                frames.append((wire.TASK, seq, function.id, int(self.measure), call.payload))
            process.channel.send(frames)

    def stop(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.channel.send([(wire.STOP, 0, 0, 0, b"")])
            # It ends by itself, unless some C code that a task has left behind does not let it.
            self._reactor.call_later(2 * worker_module.LEAVE_SECONDS, lambda: self._make_sure(worker, process))

    def _make_sure(self, worker: int, process: _Process) -> None:
        if self._processes.get(worker) is process:
            self.kill(worker, None)

    def kill(self, worker: int, seq: int | None) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        if seq is not None and not self._still_runs(worker, process, seq):
            self._signal(process, signal.SIGCONT)
            self._listener.spared(worker, self.look(worker))
            return
        with process.lock:
            process.killed = True
        self._signal(process, signal.SIGKILL)

    def _still_runs(self, worker: int, process: _Process, seq: int) -> bool:
        """Stop it and look: between a look and a kill it could begin something that deserves no blame."""
        self._signal(process, signal.SIGSTOP)
        until = time.monotonic() + STOP_PATIENCE
        while _moves(process.pid) and time.monotonic() < until:
            time.sleep(0.0002)
        self._receive(worker, process)
        return process.page.words[CURRENT] == seq and process.last != seq

    @staticmethod
    def _signal(process: _Process, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if process.pidfd >= 0:
                signal.pidfd_send_signal(process.pidfd, number)
            elif process.pid is not None:  # there was no descriptor left for it
                os.kill(process.pid, number)

    def look(self, worker: int) -> Look:
        process = self._processes.get(worker)
        if process is None:
            return Look(None, 0.0)
        try:
            current, since = process.page.words[CURRENT], process.page.words[SINCE]
        except ValueError:  # it has just been discarded
            return Look(None, 0.0)
        if current == 0 or current == process.last:
            return Look(None, 0.0)
        return Look(current, (time.monotonic_ns() - since) / 1e9)

    def call_times(self, worker: int) -> tuple[float, float] | None:
        """Seconds that the running call has taken, not counting those queueing for a CPU, and of CPU; or None."""
        process = self._processes.get(worker)
        if process is None or process.pid is None or self.look(worker).running is None:
            return None
        try:
            words = process.page.words
            called, cpu, queued = words[CALLED], words[CPU], words[QUEUED]
            cpu_now, queued_now = busy.other(process.pid)
        except (OSError, ValueError):
            return None
        if called == 0:
            return None
        wall = time.monotonic_ns() - called - (queued_now - queued)
        return wall / 1e9, (cpu_now - cpu) / 1e9

    def revoke(self, worker: int) -> int:
        process = self._processes.get(worker)
        try:
            return 1 << 63 if process is None else process.page.revoke(REVOKE_PAUSE)
        except ValueError:  # it has just been discarded
            return 1 << 63

    def restore(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None:
            with contextlib.suppress(ValueError):
                process.page.restore()

    def pid(self, worker: int) -> int | None:
        process = self._processes.get(worker)
        return None if process is None else process.pid

    def _discard(self, worker: int) -> None:
        process = self._processes.pop(worker, None)
        if process is None:
            return
        process.channel.close()
        process.page.close()
        if process.pidfd >= 0:
            os.close(process.pidfd)
            process.pidfd = -1

    def current_worker(self) -> int | None:
        return None

    def close(self) -> None:
        for process in list(self._processes.values()):
            process.killed = True
            self._signal(process, signal.SIGKILL)
        self._launcher.close()
        for worker in list(self._processes):
            self._discard(worker)

    def after_fork(self) -> None:
        self._launcher.after_fork()
        for worker in list(self._processes):
            process = self._processes[worker]
            process.lock = threading.Lock()
            process.channel.after_fork()
            self._discard(worker)


def _moves(pid: int | None) -> bool:
    """Is the process neither stopped nor gone?"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split(None, 1)[0]
    except OSError:
        return False
    return state not in (b"T", b"t", b"Z", b"X")
