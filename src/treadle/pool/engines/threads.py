"""Threads of this process: for work that waits, and on free-threaded Python for all work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..._native import _core
from ...errors import Unsupported
from ...sync import Lock
from .. import contexts
from ..abilities import Abilities
from ..cpus import available_cpus
from ..failures import BadStart, Exit, title
from ..options import PoolOptions, TaskOptions
from ..reactor import Reactor
from ..task import RAISED, RETURNED, Call, Task
from ..waits import DAEMON
from .base import Listener, Look, Memo
from .patience import Patience

HURRY_SECONDS = 6.0  # for an initializer to return, once nobody needs its worker any more; as long as processes get


def refuse_in_threads(options: TaskOptions, engine: str = "threads") -> None:
    """Raise ValueError for what threads can't keep."""
    if options.memory_limit is not None:
        why = "what one thread allocates can't be told from the others'"
        words = f"engine {engine!r} has no memory_limit, which needs processes: {why}"
        raise Unsupported(words, engine, "memory_limit")
    if options.resources:
        name = options.resources[0][0]
        raise Unsupported(f"engine {engine!r} has no {name}, which needs a cluster: engine='ray'", engine, name)


class ThreadEngine:
    """A worker is a daemon thread with an inbox.

    A thread can't be killed.  One that is over time is abandoned: its task ends with the error at once, another
    thread takes its place, and what it returns one day is dropped.
    """

    name = "threads"
    abilities = Abilities(timeout=True, stream=True, initializer=True, share_memory=True, takes_anything=True)
    keep = 1  # Python 3.12 starts no thread once the program is about to end
    stoppable = False
    batches = False  # what a thread holds back no other thread can take; and handing over costs little

    def __init__(self, listener: Listener, reactor: Reactor) -> None:
        self._listener = listener
        self._lock = Lock()  # guards: _threads, _prepared, _spare
        self._threads: dict[int, WorkerThread] = {}
        self._prepared = False
        self.initializer: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self.patience = Patience(reactor, self._late)
        self._spare: WorkerThread | None = None  # runs, and is no worker yet
        self.thread_name_prefix = ""  # of their names, before ``_0`` and so on; set before the first starts
        self.keep_exits = False  # is sys.exit in a task an exception like any other?  Else it ends the worker

    def encode(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, memo: Memo) -> Call:
        return Call(fn, args, kwargs, context=contexts.current() if memo is None else memo.get("context"))

    def model(self, memo: dict[str, Any]) -> tuple[Any, Any, Any, bool, bool] | None:
        return None, memo.get("context"), None, False, False

    def default_workers(self) -> int:
        return min(32, available_cpus() + 4)

    def configure(self, options: PoolOptions) -> None:
        if options.max_memory_per_worker is not None:
            why = "threads have their memory in common"
            words = f"engine {self.name!r} has no max_memory_per_worker, which needs processes: {why}"
            raise Unsupported(words, self.name, "max_memory_per_worker")
        if options.initializer is not None:
            self.initializer = options.initializer, options.initargs
            self.patience.seconds = options.start_timeout

    def accept(self, options: TaskOptions) -> None:
        refuse_in_threads(options, self.name)

    def renew(self) -> None:
        pass

    def prepare(self) -> None:
        # Python 3.12 starts no thread once the program is about to end.  One worker is enough to finish the work then,
        # but it must exist before.
        if self._prepared:
            return
        with self._lock:
            if self._prepared:
                return
            thread = self._thread(0)
            try:
                thread.start()
                self._spare, self._prepared = thread, True
            except BaseException:  # Ctrl-C, perhaps while it was coming up
                thread.seat.abandon(None)
                thread.seat.put(None)
                raise

    def start(self, worker: int) -> None:
        with self._lock:
            spare, self._spare = self._spare, None
            if spare is not None:
                spare.adopt(worker)
                self._threads[worker] = spare
        if spare is not None:
            self._open(spare)
            return
        thread = self._thread(worker)
        with self._lock:
            self._threads[worker] = thread
        try:
            thread.start()
        except RuntimeError as error:
            self.forget(worker)
            self._listener.ended(worker, None, Exit(os.getpid(), None), str(error))
            return
        self._open(thread)

    def _open(self, thread: WorkerThread) -> None:
        """It is there: have it do what comes before its first task."""
        if self.initializer is None:
            self._listener.ready(thread.worker)
        else:
            self.patience.begin(thread.worker)
            thread.seat.put(_INITIALIZE)

    def _late(self, worker: int) -> None:
        """Its initializer takes too long."""
        thread = self._threads.get(worker)
        if thread is None or self.initializer is None:
            return
        thread.seat.abandon(None)
        thread.seat.put(None)
        self.forget(worker)
        seconds = self.patience.seconds or HURRY_SECONDS
        words = f"its initializer, {title(self.initializer[0])}, did not return within {seconds:g} s"
        self._listener.ended(worker, None, Exit(os.getpid(), None), BadStart(words, None, True))

    def send(self, worker: int, batch: Sequence[tuple[int, Task]]) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.seat.put(batch)

    def stop(self, worker: int) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.seat.put(None)
            if self.initializer is not None:  # it may hang, and it was not needed
                self.patience.hurry(worker, HURRY_SECONDS)

    def kill(self, worker: int, seq: int | None) -> None:
        thread = self._threads.get(worker)
        if thread is None:
            return
        if not thread.seat.abandon(seq):
            self._listener.spared(worker, Look(*thread.seat.look()))
            return
        self.forget(worker)
        thread.seat.put(None)
        self._listener.ended(worker, seq, Exit(os.getpid(), None), "")

    def look(self, worker: int) -> Look:
        thread = self._threads.get(worker)
        return Look(None, 0.0) if thread is None else Look(*thread.seat.look())

    def revoke(self, worker: int) -> int:
        thread = self._threads.get(worker)
        return 1 << 63 if thread is None else thread.seat.revoke()

    def restore(self, worker: int) -> None:
        thread = self._threads.get(worker)
        if thread is not None:
            thread.seat.restore()

    def pause(self, worker: int) -> None:
        raise AssertionError("a thread waits by itself, see streams.py")

    def resume(self, worker: int) -> None:
        raise AssertionError("a thread waits by itself, see streams.py")

    def pid(self, worker: int) -> int | None:
        return os.getpid()

    def lane(self, worker: int) -> _core.Seat | None:
        thread = self._threads.get(worker)
        return None if thread is None else thread.seat

    def current_worker(self) -> int | None:
        thread = threading.current_thread()
        return thread.worker if isinstance(thread, WorkerThread) and thread.engine is self else None

    def close(self) -> None:
        spare, self._spare = self._spare, None
        for thread in [*self._threads.values(), *([spare] if spare is not None else [])]:
            thread.seat.abandon(None)
            thread.seat.put(None)
        self._threads.clear()

    def after_fork(self) -> None:
        self.patience.after_fork()
        self._lock = Lock()
        self._threads.clear()
        self._spare = None

    def forget(self, worker: int) -> None:
        """The thread has left, or nobody waits for it any more."""
        with self._lock:
            self._threads.pop(worker, None)

    def _thread(self, worker: int) -> WorkerThread:
        return WorkerThread(worker, self)

    def title(self, worker: int) -> str:
        """What the thread of a worker is called."""
        prefix = self.thread_name_prefix
        return f"{prefix}_{worker - 1}" if prefix else f"treadle-worker-{worker}"

    def threads(self) -> list[threading.Thread]:
        """Those that are workers now."""
        with self._lock:
            return list(self._threads.values())

    @property
    def listener(self) -> Listener:
        """To whom its threads report."""
        return self._listener


_INITIALIZE: Sequence[tuple[int, Task]] = []  # in an inbox, by its identity


class WorkerThread(threading.Thread):
    """A worker.  An engine whose workers have more than a thread overrides `leave` and what calls functions."""

    def __init__(self, worker: int, engine: ThreadEngine) -> None:
        super().__init__(name=engine.title(worker or 1), daemon=DAEMON)
        self.worker = worker
        self.engine = engine
        self.seat = _core.Seat()

    def adopt(self, worker: int) -> None:
        """It was started before it was known as which worker."""
        self.worker = worker
        self.name = self.engine.title(worker)

    def run(self) -> None:
        """The life of a worker."""
        try:
            self._live()
        finally:
            self.leave()

    def leave(self) -> None:
        """Give back what this worker has, before its end is reported.  Idempotent."""

    def _live(self) -> None:
        engine = self.engine
        _core.thread_name(self.name)
        _core.thread_role("worker", engine.listener.plate)
        self._runner = contexts.Runner()
        while True:
            batch = self.seat.get()
            worker = self.worker
            if batch is None:
                break
            if batch is _INITIALIZE:
                if not self._initialize():
                    return
                self._runner = contexts.Runner()  # what the initializer has set, every task finds
                continue
            if not self._serve(batch):
                return
            del batch
        self.leave()
        if self.seat.end():
            engine.forget(worker)
            engine.listener.ended(worker, None, Exit(os.getpid(), 0), "")

    def _serve(self, batch: Sequence[tuple[int, Task]]) -> bool:
        """Run these, and what follows them; False if this thread is to leave without a word."""
        listener, seat, worker = self.engine.listener, self.seat, self.worker
        shortcut = listener.shortcut(worker)
        if shortcut is None:
            return False
        end: tuple[Any, int] | tuple[()] | None = None
        value: Any = None
        for seq, task in batch:
            try:
                end = seat.run(*shortcut, self._runner, seq, task)
                if end is None:
                    return False
                if not end:
                    continue
                value, nanoseconds = end
                if nanoseconds >= 0:
                    result = (seat.seq, RETURNED, value, nanoseconds, 0)
                else:
                    if seat.abandoned:
                        return False
                    listener.skipped(worker, [seat.seq])
                    continue
            except BaseException as error:
                if isinstance(error, SystemExit) and not self.engine.keep_exits:
                    self._exit(seat.seq, error)
                    return False
                seconds = seat.look()[1]
                if not seat.end():
                    return False
                if seat.task is not None:
                    seat.task.pid = os.getpid()
                # Without this frame, which is nobody's business: it holds the task, which holds the future, which will
                # hold the exception.
                error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ is not None else None
                result = (seat.seq, RAISED, error, int(seconds * 1e9), 0)
            seat.drop()
            listener.finished(worker, (result,))
            end, value = None, None  # hold nobody's data while waiting
            del result
        return True

    def _exit(self, seq: int, error: SystemExit) -> None:
        """A task asks for the end of this thread, as it would in a thread of the program's own."""
        self.leave()
        if self.seat.end():
            self.engine.forget(self.worker)
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            self.engine.listener.ended(self.worker, seq, Exit(os.getpid(), code), "")

    def _call_initializer(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        fn(*args)

    def _initialize(self) -> bool:
        """Make this thread ready for tasks; False if it fails, or has taken too long."""
        engine, worker = self.engine, self.worker
        assert engine.initializer is not None
        fn, args = engine.initializer
        trouble: BadStart | None = None
        try:
            self._call_initializer(fn, args)
        except SystemExit as error:
            trouble = BadStart(f"its initializer, {title(fn)}, raised SystemExit({error.code!r})", error)
        except BaseException as error:
            trouble = BadStart(f"its initializer, {title(fn)}, raised", error)
        if trouble is not None:
            self.leave()
        if not engine.patience.end(worker) or not self.seat.end():
            return False  # somebody has reported its end
        if trouble is None:
            engine.listener.ready(worker)
            return True
        engine.forget(worker)
        engine.listener.ended(worker, None, Exit(os.getpid(), None), trouble)
        return False
