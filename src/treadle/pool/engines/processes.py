"""Processes of this machine: for work that computes, and for work that may crash."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..._native import _core
from ...errors import describe_exit
from ...sync import Event
from .. import busy, inside, memory, payloads
from .. import worker as worker_module
from ..abilities import Abilities
from ..calls import CallTable
from ..cpus import available_cpus
from ..failures import BadStart, Exit, title
from ..functions import FUNCTIONS_KEPT, Function
from ..inside.unfinished import Page, tell
from ..launch.base import START_METHODS, Launcher
from ..launch.client import NurseryLauncher
from ..launch.fork import ForkLauncher
from ..options import PoolOptions, TaskOptions
from ..payloads import encode_arguments, policy
from ..reactor import Reactor
from ..reports import Receiver
from ..task import Call, Task
from ..transport import base as wire
from ..transport.channel import Channel
from ..waits import wait
from .base import Listener, Look, Memo
from .patience import Patience

STORE_KEPT = 8 << 20  # bytes that a store without work may keep, about
TRIM_SECONDS = 1.0  # how often to look, while it keeps more
BURY_SECONDS = 1.0  # to wait for the end of a process that was sent SIGKILL
START_PATIENCE = 30.0  # seconds to wait for the pid of a process that was asked for
STOP_PATIENCE = 0.05  # seconds to wait for a stopped process to stand still


class _Process:
    """One worker process, as the engine sees it."""

    __slots__ = (
        "channel", "lane", "page", "pid", "pidfd", "started", "discarded", "killed", "known", "lock", "trouble",
        "paused",
    )  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.lane = channel.lane
        self.page = Page()  # the lines that it has begun
        self.pid: int | None = None  # Invariant: None until the launcher says `started`
        self.pidfd = -1  # the same; both guarded by `lock`
        self.started = Event()  # set when the pid is known, or never will be
        # Invariant: once True nothing is sent to `pid`, which may be another's.  Guarded by `lock`
        self.discarded = False
        self.killed = False  # it is to be killed as soon as `pidfd` is known; guarded by `lock`
        self.known: OrderedDict[int, None] = OrderedDict()  # ids of the functions that it has, guarded by `lock`
        self.paused = False  # nothing is taken in.  Of the reactor's thread alone
        self.trouble: BadStart | None = None  # why it does not get ready
        self.lock = threading.Lock()  # one sender at a time; rank: before the channel's


class ProcessEngine:
    """Workers that are processes, each with its own channel."""

    name = "processes"
    abilities = Abilities(
        timeout=True, kill=True, memory_limit=True, stream=True, initializer=True, share_memory=True, recall=True
    )
    batches = True
    keep = 0
    stoppable = True

    def __init__(
        self,
        listener: Listener,
        reactor: Reactor,
        start_method: str = "forkserver",
        main_dumps: Callable[[Any], bytes] | None = None,
    ) -> None:
        if start_method not in START_METHODS:
            raise ValueError(f"start_method must be one of {', '.join(START_METHODS)}, not {start_method!r}")
        self._listener = listener
        self._reactor = reactor
        self.keep_exits = False  # is sys.exit in a task an exception like any other?  Else it ends the worker
        self._calls = CallTable()
        self._most_memory: int | None = None  # bytes that a worker may have after a task
        self._runs = True  # may items of a map travel together?
        # How things of the main module are pickled; None: by value.
        self._main_dumps = main_dumps
        if main_dumps is None and payloads.results_policy is not None:
            self._main_dumps = payloads.by_value  # in a worker whose results go by name
        self._initializer: bytes | None = None  # pickled, with its arguments
        self._initializer_name = ""
        self._patience = Patience(reactor, self._late)
        self._reports: Receiver | None = None  # Invariant: there is one as soon as there is a worker, until `close`
        self._processes: dict[int, _Process] = {}
        self._measure = False
        # Where large payloads lie.  Made when first needed; then it stays.
        self._store: _core.Store | None = None
        self._closed = False
        self._making = threading.Lock()  # guards the making of _store and _reports; rank: before the reactor's
        # Is a look due whether the store keeps memory for nothing?  Only the reactor's thread uses it.
        self._trims = False
        self._launcher: Launcher
        if start_method == "fork":
            self._launcher = ForkLauncher(reactor, self._started, self._gone)
        else:
            self._launcher = NurseryLauncher(reactor, start_method, self._started, self._gone)

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        if self._main_dumps is None:
            return self._encode(fn, args, kwargs, memo)
        before, policy.dumps = policy.dumps, self._main_dumps  # as `_policy`, for each call
        try:
            return self._encode(fn, args, kwargs, memo)
        finally:
            policy.dumps = before

    @contextlib.contextmanager
    def _policy(self) -> Iterator[None]:
        """Things of the main module are pickled as this pool does it."""
        before, policy.dumps = policy.dumps, self._main_dumps
        try:
            yield
        finally:
            policy.dumps = before

    def _encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        store = None if self._closed else self._store or self._opened_store()
        return self._calls.encode(fn, args, kwargs, memo, store)

    @property
    def known(self) -> dict[int, _core.Known]:
        """Functions whose calls may be simple (see `_core.Desk`)."""
        return self._calls.functions.known

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        function, context = memo.get("function"), memo.get("context")
        if function is None:
            return None
        variables = None
        if context is not None:
            variables = memo.get("variables")
            if variables is None:
                variables = memo["variables"] = self._calls.variables.encode(context)
        return function, context, variables, True, self._runs and not self.measure

    def _opened_store(self) -> _core.Store:
        with self._making:
            if self._store is None:
                self._store = _core.Store()
            return self._store

    def _trim(self) -> None:
        """Memory that nothing has used for a moment goes back."""
        self._trims = self._store is not None and self._store.trim() > STORE_KEPT
        if self._trims:
            self._reactor.call_later(TRIM_SECONDS, self._trim)

    def default_workers(self) -> int:
        return available_cpus()

    def configure(self, options: PoolOptions) -> None:
        self._most_memory = options.max_memory_per_worker
        # What is counted, or looked at, after each task is not to hold many.
        self._runs = options.max_memory_per_worker is None and options.max_tasks_per_worker is None
        fn, args = options.initializer, options.initargs
        if fn is None:
            return
        if self._main_dumps is None:
            from ..main_pickling import dumps_with_globals  # here, because most pools have no initializer

            # What it binds in its globals, the functions that come later are to find.
            self._main_dumps = dumps_with_globals
        with self._policy():
            self._initializer = pickle.dumps((self._calls.functions.encode(fn).blob, encode_arguments(args, None)))
        self._initializer_name = title(fn)
        self._patience.seconds = options.start_timeout

    @property
    def measure(self) -> bool:
        """Have workers measure the CPU time of each call."""
        return self._measure

    @measure.setter
    def measure(self, measure: bool) -> None:
        self._measure = measure
        for process in list(self._processes.values()):
            process.lane.plain = not self._flag

    @property
    def _flag(self) -> int:
        """What is added to each task: whatever makes it not plain, so that the worker's Python code runs it."""
        return int(self._measure) | (wire.WATCHED if self._most_memory is not None else 0)

    def accept(self, options: TaskOptions) -> None:
        self.abilities.accept(self.name, options)

    def renew(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def start(self, worker: int) -> None:
        try:
            self._launch(worker)
        except Exception as error:  # no descriptors left, no memory: report it as the end of a worker that never was
            self.kill(worker, None)  # if it has come up in spite of it
            self._discard(worker)
            self._listener.ended(worker, None, Exit(None, None), str(error))

    def _launch(self, worker: int) -> None:
        channel = Channel(self._opened_store())
        process = _Process(channel)
        self._processes[worker] = process
        # All of it before there is a process: that may be gone in a moment, and then the reactor's thread gives it all
        # back, and the numbers of the descriptors are others'.
        self._reactor.add(channel.fd, lambda events: self._readable(worker))
        if self._initializer is not None:
            self._patience.begin(worker)
        try:
            self._launcher.launch(worker, channel.remote_fds)
        finally:
            channel.close_remote()
        setup = worker_module.environment(self._settings(process.page))
        frames: list[wire.Frame] = [(wire.SETUP, worker, int(self.keep_exits), self._listener.plate, setup)]
        if self._most_memory is not None:
            frames.append((wire.MEMORY, 0, self._most_memory, 0, b""))
        if self._initializer is not None:
            frames.append((wire.INITIALIZE, 0, 0, 0, self._initializer))
        channel.lane.send(frames)
        channel.lane.plain = not self._flag
        if self._reports is not None:
            channel.lane.hear(self._reports.fd, self._reports.reading)

    def _settings(self, page: Page) -> bytes:
        """What a new worker has to know of this program."""
        with self._making:
            if self._closed:
                raise OSError("the pool is closed")
            reports = self._reports
            if reports is None:
                reports = self._reports = Receiver(inside.handlers)
                self._reactor.add(reports.fd, lambda events: reports.drain())
        workers = getattr(self._listener, "limit", None) or self.default_workers()
        return inside.settings(reports.place, inside.native.share(workers, available_cpus()), page.place)

    def _hear(self) -> None:
        """What workers have reported before what is looked at next."""
        if self._reports is not None:
            self._reports.drain()

    def _started(self, worker: int, pid: int, pidfd: int) -> None:
        process = self._processes.get(worker)
        if process is None:  # its start has failed here, or all is closed: nobody else will end it
            if pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
            return
        with process.lock:
            process.pid = pid
            process.pidfd = pidfd
            killed = process.killed
        process.started.set()
        if killed:
            self._signal(process, signal.SIGKILL)

    def _gone(self, worker: int, exitcode: int | None, reason: str) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        if exitcode is None or reason:
            self._bury(process)  # nobody has waited for it
        self._receive(worker, process)  # what it sent before its end counts
        self._hear()
        if parts := process.page.read():
            tell(process.pid, parts)
        running = self._running(process)
        if exitcode != 0:
            _core.trace_mark(f"worker {worker} {reason or describe_exit(exitcode)}", process.lane.token)
        if self._store is not None:
            self._store.bury(process.lane.token)
        pid = process.pid
        self._discard(worker)
        why: str | BadStart = reason
        if self._initializer is not None:
            self._patience.end(worker)
            why = process.trouble or BadStart(
                f"it {reason or describe_exit(exitcode)} before its initializer, {self._initializer_name}, returned"
            )
        elif not reason:
            why = f"the process exits before it is ready, with code {exitcode}"
        self._listener.ended(worker, running, Exit(pid, exitcode), why)

    @staticmethod
    def _running(process: _Process) -> int | None:
        """Which task its page says that it runs, if that has not ended."""
        current = process.lane.look()[0]
        return None if current == 0 or current == process.lane.last else current

    def _late(self, worker: int) -> None:
        """Its initializer takes too long."""
        process = self._processes.get(worker)
        if process is not None:
            words = f"its initializer, {self._initializer_name}, did not return within {self._patience.seconds:g} s"
            process.trouble = BadStart(words, None, True)
            self.kill(worker, None)

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
        if process is not None:
            process.channel.hear()
            # A thread that waits for its result signals anew if it leaves something.
            if not process.paused and not process.lane.claimed:
                self._receive(worker, process)

    def pause(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.paused = True

    def resume(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None and process.paused:
            process.paused = False
            self._receive(worker, process)

    def _receive(self, worker: int, process: _Process) -> None:
        """Report all that has come.  Only in the reactor's thread."""
        try:
            results, frames = process.lane.receive()
        except MemoryError:
            self._signal(process, signal.SIGKILL)
            return
        self._hear()
        skipped: list[int] = []
        ready = swollen = False
        items: dict[int, list[Any]] = {}
        for kind, seq, _, _, payload in frames:
            if kind == wire.READY:
                ready = self._initializer is None
            elif kind == wire.SWOLLEN:
                swollen = True
            elif kind == wire.ITEM:
                items.setdefault(seq, []).append(payload)
            elif kind == wire.INITIALIZED:
                ready = True
                self._patience.end(worker)
            elif kind == wire.NOT_INITIALIZED:
                process.trouble = BadStart(f"its initializer, {self._initializer_name}, raised", payload)
            elif kind == wire.SKIPPED:
                skipped.append(seq)
        if ready:
            self._listener.ready(worker)
        for seq, some in items.items():  # before the end of the same task
            self._listener.yielded(worker, seq, some)
        if results:
            self._listener.finished(worker, results)
        if skipped:
            self._listener.skipped(worker, skipped)
        if swollen:
            self._listener.swollen(worker)
        if results and not self._trims:
            self._trim()
        if process.lane.damaged:
            self._signal(process, signal.SIGKILL)

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        process = self._processes.get(worker)
        if process is None:
            return
        lane = process.lane
        flag = self._flag
        with process.lock:
            at = 0
            while True:
                at = lane.send_tasks(batch, at, flag)
                if at == len(batch):
                    return
                seq, task = batch[at]
                how = self._introduce(process, task)
                limit = task.options.memory_limit
                if limit is not None or task.options.stream:
                    payload = task.call.payload
                    assert payload is not None
                    watched: wire.Frame = (wire.TASK, seq, task.call.function.id, flag | wire.WATCHED | how, payload)
                    before: list[wire.Frame] = []
                    if limit is not None:
                        before.append((wire.MEMORY_LIMIT, seq, limit, 0, b""))
                    if task.options.stream:
                        before.append((wire.STREAM, seq, 0, 0, b""))
                    lane.send([*before, watched])
                    at += 1

    @staticmethod
    def _introduce(process: _Process, task: Task) -> int:
        """See to it that the worker has the task's function and context variables; what says which those are."""
        known = process.known
        call = task.call
        function: Function = call.function
        variables: Function | None = call.variables
        frames: list[wire.Frame] = []
        for each in (function,) if variables is None else (variables, function):
            if each.id in known:
                known.move_to_end(each.id)
                continue
            frames.append((wire.FUNCTION, each.id, 0, 0, each.blob))
            known[each.id] = None
            if len(known) > FUNCTIONS_KEPT:
                frames.append((wire.FORGET, known.popitem(last=False)[0], 0, 0, b""))
        if frames:
            process.lane.send(frames)
        how = 0 if variables is None else variables.id << wire.VARIABLES
        options = task.options if task.options.memory_limit is None and not task.options.stream else None
        process.lane.introduce(function, function.id, variables, how, options)
        return how

    def stop(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.lane.send([(wire.STOP, 0, 0, 0, b"")])
            # It ends by itself, unless some C code that a task has left behind does not let it.  Known by its number
            # alone, which no other worker ever gets: what it had is not to be kept until then.
            self._reactor.call_later(2 * worker_module.LEAVE_SECONDS, lambda: self.kill(worker, None))

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
        return self._running(process) == seq

    @staticmethod
    def _signal(process: _Process, number: int) -> None:
        # The lock: so that it is not discarded, and its number not another one's, meanwhile.
        with process.lock, contextlib.suppress(ProcessLookupError):
            if process.discarded:
                return
            if process.pidfd >= 0:
                signal.pidfd_send_signal(process.pidfd, number)
            elif process.pid is not None:  # there was no descriptor left for it
                os.kill(process.pid, number)

    def send_signal(self, worker: int, number: int) -> None:
        """Send a signal to a worker, if it is there (still)."""
        process = self._processes.get(worker)
        if process is not None:
            self._signal(process, number)

    def wait_started(self, worker: int) -> int | None:
        """The pid of a worker that was asked for; waits for it, at most `START_PATIENCE` seconds."""
        process = self._processes.get(worker)
        if process is None:
            return None
        wait(process.started.wait, START_PATIENCE)
        return process.pid

    def look(self, worker: int) -> Look:
        process = self._processes.get(worker)
        if process is None:
            return Look(None, 0.0)
        current, since, base = process.lane.look()
        if current == 0 or current == process.lane.last:
            return Look(None, 0.0)
        grown = max(0, memory.resident(process.pid) - base) if base and process.pid is not None else 0
        return Look(current, (time.monotonic_ns() - since) / 1e9, grown)

    def call_times(self, worker: int) -> tuple[float, float] | None:
        """Seconds that the running call has taken, not counting those queueing for a CPU, and of CPU; or None."""
        process = self._processes.get(worker)
        if process is None or process.pid is None or self.look(worker).running is None:
            return None
        try:
            called, cpu, queued = process.lane.calling()
            cpu_now, queued_now = busy.other(process.pid)
        except OSError:
            return None
        if called == 0:
            return None
        wall = time.monotonic_ns() - called - (queued_now - queued)
        if busy.is_runnable(process.pid):
            wall = min(wall, cpu_now - cpu)  # the rest may be queueing that is not in the books yet
        return wall / 1e9, (cpu_now - cpu) / 1e9

    def revoke(self, worker: int) -> int:
        process = self._processes.get(worker)
        return 1 << 63 if process is None else process.lane.revoke()

    def restore(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.lane.restore()

    def pid(self, worker: int) -> int | None:
        process = self._processes.get(worker)
        return None if process is None else process.pid

    def _discard(self, worker: int) -> None:
        process = self._processes.pop(worker, None)
        if process is None:
            return
        process.started.set()
        self._reactor.remove(process.channel.fd)
        process.channel.close()
        process.page.close()
        with process.lock:
            process.discarded = True
            pidfd, process.pidfd = process.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def lane(self, worker: int) -> _core.Lane | None:
        process = self._processes.get(worker)
        return None if process is None else process.lane

    def current_worker(self) -> int | None:
        return None

    def close(self) -> None:
        for process in list(self._processes.values()):
            process.killed = True
            self._signal(process, signal.SIGKILL)
        self._launcher.close()
        for worker in list(self._processes):
            self._discard(worker)
        self._close_reports()

    def _close_reports(self) -> None:
        with self._making:
            # What is lent of the store keeps it; this does not.
            self._closed, self._store = True, None
            reports, self._reports = self._reports, None
            if reports is not None:
                self._reactor.remove(reports.fd)
        if reports is not None:
            reports.drain()
            reports.close()

    def after_fork(self) -> None:
        self._making = threading.Lock()
        self._calls.after_fork()
        self._patience.after_fork()
        self._launcher.after_fork()
        for worker in list(self._processes):
            process = self._processes[worker]
            process.lock = threading.Lock()
            self._discard(worker)
        if self._reports is not None:
            self._reports.after_fork()
            self._reports = None


def _moves(pid: int | None) -> bool:
    """Is the process neither stopped nor gone?"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split(None, 1)[0]
    except OSError:
        return False
    return state not in (b"T", b"t", b"Z", b"X")
