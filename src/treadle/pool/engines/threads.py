"""Threads of this process: for work that waits, and on free-threaded Python for all work."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from ...sync import Lock
from ..cpus import available_cpus
from ..failures import Exit
from ..task import RAISED, RETURNED, Call, Task
from .base import Listener, Look, Memo


class ThreadEngine:
    """A worker is a daemon thread with an inbox.

    A thread can't be killed.  One that is over time is abandoned: its task ends with the error at once, another
    thread takes its place, and what it returns one day is dropped.
    """

    name = "threads"
    batches = False  # what a thread holds back no other thread can take; and handing over costs little

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = Lock()  # guards: _threads, _prepared, _spare
        self._threads: dict[int, _Thread] = {}
        self._prepared = False
        self._spare: _Thread | None = None  # runs, and is no worker yet

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        return Call(fn, args, kwargs)

    def default_workers(self) -> int:
        return min(32, available_cpus() + 4)

    def prepare(self) -> None:
        # Python 3.12 starts no thread once the program is about to end.  One worker is enough to finish the work then,
        # but it must exist before.
        if self._prepared:
            return
        with self._lock:
            if self._prepared:
                return
            thread = _Thread(0, self)
            try:
                thread.start()
                self._spare, self._prepared = thread, True
            except BaseException:  # Ctrl-C, perhaps while it was coming up
                thread.abandon(None)
                thread.inbox.put(None)
                raise

    def start(self, worker: int) -> None:
        with self._lock:
            spare, self._spare = self._spare, None
            if spare is not None:
                spare.adopt(worker)
                self._threads[worker] = spare
        if spare is not None:
            self._listener.ready(worker)
            return
        thread = _Thread(worker, self)
        with self._lock:
            self._threads[worker] = thread
        try:
            thread.start()
        except RuntimeError as error:
            self.forget(worker)
            self._listener.ended(worker, None, Exit(os.getpid(), None), str(error))
            return
        self._listener.ready(worker)

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.inbox.put(batch)

    def stop(self, worker: int) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.inbox.put(None)

    def kill(self, worker: int, seq: int | None) -> None:
        thread = self._threads.get(worker)
        if thread is None:
            return
        if not thread.abandon(seq):
            self._listener.spared(worker, thread.look())
            return
        self.forget(worker)
        thread.inbox.put(None)
        self._listener.ended(worker, seq, Exit(os.getpid(), None), "")

    def look(self, worker: int) -> Look:
        thread = self._threads.get(worker)
        return Look(None, 0.0) if thread is None else thread.look()

    def revoke(self, worker: int) -> int:
        thread = self._threads.get(worker)
        return 1 << 63 if thread is None else thread.revoke()

    def restore(self, worker: int) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.restore()

    def pid(self, worker: int) -> int | None:
        return os.getpid()

    def current_worker(self) -> int | None:
        thread = threading.current_thread()
        return thread.worker if isinstance(thread, _Thread) and thread.engine is self else None

    def close(self) -> None:
        spare, self._spare = self._spare, None
        for thread in [*self._threads.values(), *([spare] if spare is not None else [])]:
            thread.abandon(None)
            thread.inbox.put(None)
        self._threads.clear()

    def after_fork(self) -> None:
        self._lock = Lock()
        self._threads.clear()
        self._spare = None

    def forget(self, worker: int) -> None:
        """The thread has left, or nobody waits for it any more."""
        with self._lock:
            self._threads.pop(worker, None)

    @property
    def listener(self) -> Listener:
        """To whom its threads report."""
        return self._listener


class _Thread(threading.Thread):
    def __init__(self, worker: int, engine: ThreadEngine) -> None:
        super().__init__(name=f"treadle-worker-{worker}", daemon=True)
        self.worker = worker
        self.engine = engine
        self.inbox: SimpleQueue[Sequence[tuple[int, Task]] | None] = SimpleQueue()
        self._guard = Lock()  # guards the five below
        self._limit: float = math.inf  # it starts nothing with a higher sequence number
        self._last = 0  # the sequence number that it started last
        self._running: int | None = None
        self._since = 0
        # Invariant: once True it stays so, and the thread reports nothing more.
        self._abandoned = False

    def adopt(self, worker: int) -> None:
        """It was started before it was known as which worker."""
        self.worker = worker
        self.name = f"treadle-worker-{worker}"

    def run(self) -> None:
        engine = self.engine
        while True:
            batch = self.inbox.get()
            worker = self.worker
            if batch is None:
                break
            for seq, task in batch:
                if not self._begin(seq):
                    if self._abandoned:
                        return
                    engine.listener.skipped(worker, [seq])
                    continue
                result = self._attempt(seq, task)
                if result is None:
                    return
                if not self._end():
                    return
                engine.listener.finished(worker, (result,))
                del task, result  # hold nobody's data while waiting
            del batch
        if self._end():
            engine.forget(worker)
            engine.listener.ended(worker, None, Exit(os.getpid(), 0), "")

    def _attempt(self, seq: int, task: Task) -> tuple[int, int, Any, int, int] | None:
        call = task.call
        try:
            value = call.fn(*call.args, **call.kwargs) if call.kwargs else call.fn(*call.args)
        except SystemExit as error:
            # It asks for the end of this thread, as it would in a thread of the program's own.
            if self._end():
                self.engine.forget(self.worker)
                code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
                self.engine.listener.ended(self.worker, seq, Exit(os.getpid(), code), "")
            return None
        except BaseException as error:
            task.pid = os.getpid()
            return seq, RAISED, error, time.monotonic_ns() - self._since, 0
        return seq, RETURNED, value, time.monotonic_ns() - self._since, 0

    def _begin(self, seq: int) -> bool:
        with self._guard:
            if self._abandoned or seq > self._limit:
                return False
            self._since = time.monotonic_ns()
            self._running = self._last = seq
            return True

    def _end(self) -> bool:
        with self._guard:
            self._running = None
            return not self._abandoned

    def abandon(self, seq: int | None) -> bool:
        """Let it report nothing more, if it (still) runs `seq`; True if so."""
        with self._guard:
            if seq is not None and self._running != seq:
                return False
            self._abandoned = True
            return True

    def revoke(self) -> int:
        """Let it start nothing more; returns the sequence number that it started last."""
        with self._guard:
            self._limit = last = self._last
            return last

    def restore(self) -> None:
        """It may start again what it is sent."""
        with self._guard:
            self._limit = math.inf

    def look(self) -> Look:
        """What it runs now."""
        with self._guard:
            if self._running is None:
                return Look(None, 0.0)
            return Look(self._running, (time.monotonic_ns() - self._since) / 1e9)
