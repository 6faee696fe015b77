"""`Pool`: the front door."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import AsyncIterable, Callable, Iterable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .._native import _core
from ..errors import TaskNotPicklable
from . import catalog, registry
from .cpus import interpreter_lock
from .failures import describe_task
from .feeder import MapOptions, OnError
from .future import Future
from .launch import client
from .launch.base import START_METHODS
from .options import (
    DEFAULT,
    START_SECONDS,
    RetryOn,
    TaskOptions,
    pool_options,
    task_options,
)
from .task import Call, Task

# What is imported here a program waits for before its first pool can ask for processes.  So it is little: the machinery
# is loaded while the nursery starts, and asyncio, which takes as long as all of it, only for who uses it.
if TYPE_CHECKING:
    import asyncio

    from ..recording import Recorder
    from . import stats
    from .amaps import AsyncMapIterator
    from .decision import Decision
    from .driver import Driver
    from .engines.guest import Engine as PublicEngine
    from .maps import MapIterator
    from .opening import Owned

EngineName = Literal["auto", "threads", "processes", "interpreters", "inline", "dask", "ray"]
StartMethod = Literal["forkserver", "spawn", "fork"]
ON_ERROR = ("raise", "return", "skip")
# The options that may be given for each task.
TASK_OPTIONS = ("timeout", "retries", "backoff", "retry_on", "priority", "memory_limit")


class Pool(concurrent.futures.Executor):
    """Workers that run functions: an `Executor` that survives what its tasks do.

    `workers` is how many tasks may run at once (default: as many as the engine finds sensible).  `engine` is
    ``"threads"`` for work that waits, ``"processes"`` for work that computes or may crash, ``"interpreters"`` for work
    that computes, in this process (Python 3.14 and newer), or ``"auto"``: run the first calls for real, measure them,
    and choose.  ``"inline"`` runs each call in the thread that asks for it, for a debugger; ``"dask"`` and ``"ray"``
    run them on the cluster at `address` (of Dask's scheduler, or a `Client`; of Ray, or ``"auto"``), or on one of their
    own on this machine.  An engine of your own is given as an object, see `treadle.engines`.

    `start_method` says how processes are made: ``"forkserver"`` (default), ``"spawn"`` or ``"fork"``.

    Workers start when there is work for them.  Leaving the `with` block, or the program, finishes the work; Ctrl-C
    ends it.  Every method may be called from any thread, but not from another process.

    `initializer(*initargs)` runs once in each worker, before its first task.  Where it raises, ends the process or
    takes longer than `start_timeout` seconds, so that no worker comes up, tasks that wait fail with `WorkerStartError`;
    what it raised is the ``__cause__``.  Later tasks try again.

    A worker leaves, and another one comes when there is work for it, after `max_tasks_per_worker` tasks, when it has
    more than `max_memory_per_worker` bytes in use after a task (processes), or after `idle_timeout` seconds without
    work (None: never; default: 60, or never where there is an `initializer`).  A pool of threads keeps one of them.
    `max_memory_per_worker` counts memory that the process has for itself: resident, not in files or shared memory.

    `trace` is a file: what every thread and process of the program runs and waits for while the pool lives is written
    there, for Perfetto or ``treadle trace FILE --html OUT``, when `shutdown` has waited for the end, else at the end of
    the program.  OSError where that is not possible, ValueError where it is a file of another kind.

    Raises ValueError for a number of workers below 1, an unknown engine or an unknown start method, or an option that
    the engine can't keep; `TaskNotPicklable` for an `initializer` that can't travel to a process.
    """

    _recorder: Recorder | None = None  # a `multiprocessing.Pool`, which makes its driver itself, has none

    def __init__(
        self,
        workers: int | None = None,
        engine: EngineName | str | PublicEngine = "auto",
        *,
        address: Any = None,
        start_method: StartMethod | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: int | None = None,
        idle_timeout: float | Literal["auto"] | None = "auto",
        start_timeout: float | None = START_SECONDS,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        check_pool(workers, engine, start_method, address)
        options = pool_options(
            initializer, initargs, max_tasks_per_worker, max_memory_per_worker, idle_timeout, start_timeout
        )
        machinery = _machinery(engine, start_method)
        self._recorder = _record(trace)
        try:
            self._driver = machinery.open_driver(workers, engine, start_method, True, options, self._recorder, address)
        except BaseException:
            self._end_trace()
            raise

    # -- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` on a worker; its result comes with the future.

        All keywords are the function's own; for a time-out or retries use `options`.  Raises `PoolClosed` after
        `shutdown`, TypeError if `fn` can't be called.  What can't be pickled is reported by the future.
        """
        return self._driver.desk.submit(fn, args, kwargs) or self._submit_any(fn, args, kwargs, DEFAULT)

    def _submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> Future:
        simple = self._driver.desk.submit(fn, args, kwargs) if options is DEFAULT else None
        return simple or self._submit_any(fn, args, kwargs, options)

    def _submit_any(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Future:
        if not callable(fn):
            raise TypeError(f"the function must be callable, not {fn!r}")
        driver = self._driver
        if driver.closing:  # first: a forked child must not touch what another thread had in hand
            raise driver.refusal()
        self._accept(options)
        try:
            call = driver.engine.encode(fn, args, kwargs, None)
        except TaskNotPicklable as error:
            future = Future(driver)
            # Without its traceback: this frame holds the future.  Its cause has what matters.
            future.fail(describe_task(error.with_traceback(None), Task(Call(fn, args, kwargs), future)))
            return future
        future = _core.future_made(Future, driver, call, options)
        task = future._task
        assert task is not None
        if not driver.submit([task]):
            raise driver.refusal()
        return future

    def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """The same for asyncio: ``result = await pool.asubmit(fn, x)``.  Needs a running event loop."""
        import asyncio

        return asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        retries: int = 0,
        backoff: float = 0.0,
        retry_on: RetryOn | None = None,
        priority: int = 0,
        memory_limit: int | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        on_error: OnError = "raise",
        progress: bool = False,
        buffer: int | None = None,
        prefetch: bool = False,
        stream: bool = False,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
    ) -> MapIterator:
        """As `treadle.map`, on this pool.  `chunksize` is accepted and ignored: batches adapt by themselves."""
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
        task = task_options(timeout, retries, backoff, retry_on, priority, memory_limit, stream, resources)
        options = check_map(fn, ordered, task, on_error, progress, buffer, prefetch)
        self._accept(task)
        if self._driver.engine.name == "inline":
            options = _one_by_one(options)
        return _iterator(stream)(lambda: (self, None, self._driver.limit), fn, iterables, options)

    def amap(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        retries: int = 0,
        backoff: float = 0.0,
        retry_on: RetryOn | None = None,
        priority: int = 0,
        memory_limit: int | None = None,
        ordered: bool = True,
        on_error: OnError = "raise",
        buffer: int | None = None,
        stream: bool = False,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
    ) -> AsyncMapIterator:
        """As `map`, for asyncio: ``async for result in pool.amap(fn, items)``.  Iterables may be asynchronous."""
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
        task = task_options(timeout, retries, backoff, retry_on, priority, memory_limit, stream, resources)
        options = check_map(fn, ordered, task, on_error, False, buffer, False)
        self._accept(task)
        from .amaps import AsyncMapIterator

        kind = AsyncMapIterator
        if stream:
            from .astreams import AsyncStreamIterator

            kind = AsyncStreamIterator
        return kind(self, fn, iterables, options, self._driver.limit)

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        backoff: float = 0.0,
        retry_on: RetryOn | None = None,
        priority: int = 0,
        memory_limit: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
    ) -> PoolWithOptions:
        """This pool with options for each task: ``pool.options(timeout=3, retries=2).submit(fn, x)``.

        `timeout` is in seconds and counts from the start of each attempt.  A process that is over time is killed, also
        in the middle of C code, and nothing else is blamed for it; a thread is abandoned.

        `retries` is how many further attempts a failed task gets.  `retry_on` says what is worth one: an exception
        type, a tuple of them, or a function of the exception (it is called in a thread of the pool's: keep it quick).
        `WorkerDied`, `TaskTimeout` and `MemoryLimitExceeded` count as exceptions; default: all.  `backoff` is the wait
        in seconds before the first retry; it doubles with each further one, to at most 60 s, and the real wait is
        between half of that and all of it, by chance, so that what failed together does not come back together.  Who
        waits occupies no worker.

        Of the tasks that are queued, those with the highest `priority` start first (default: 0; negative ones come
        last), those of one priority in the order in which they came.

        `memory_limit` (bytes, processes only) is how much memory an attempt may ask for beyond what its worker has when
        it starts: private writable memory, touched or not, as the kernel counts it for RLIMIT_DATA, thread stacks
        included.  What goes beyond gets a MemoryError, and the task fails with `MemoryLimitExceeded` unless it catches
        that.  What this can't see (shared memory, processes that the task starts) is looked at 20 times a second, by
        what is resident; a task above its limit is killed.

        `num_cpus`, `num_gpus` and `memory` (bytes) are what a task needs of a cluster's machine (Ray; it keeps them
        free for the task, and does not watch what that uses).

        Raises `Unsupported`, which is a ValueError, for an option that the engine can't keep.
        """
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
        task = task_options(timeout, retries, backoff, retry_on, priority, memory_limit, False, resources)
        self._accept(task)
        return PoolWithOptions(self, task)

    def _accept(self, task: TaskOptions) -> None:
        """There will be tasks with these options.  Raises ValueError for what the engine can't keep."""
        if task is not DEFAULT:
            self._driver.engine.accept(task)

    # -- around it

    @property
    def driver(self) -> Driver:
        """The machinery; not part of the public interface."""
        driver: Driver = self._driver
        return driver

    @property
    def decision(self) -> Decision | None:
        """Which engine runs new tasks and why; None while `auto` is still measuring."""
        from .opening import decision

        return decision(self._driver)

    def stats(self) -> stats.PoolStats:
        """Workers with pid and running task, and counts of tasks queued, done, failed and cancelled."""
        from .stats import take

        return take(self._driver)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; finish those that there are, or, with `cancel_futures`, those that have started.

        With `wait`, return when all is over.  Ctrl-C while waiting ends everything.
        """
        self._driver.shutdown(cancel=cancel_futures)
        if wait:
            try:
                self._driver.wait_closed()
            except Exception:
                raise
            except BaseException:
                self.terminate()
                raise
            self._end_trace()

    def terminate(self) -> None:
        """End everything now: queued and running tasks are cancelled, processes are killed."""
        self._driver.terminate()
        self._end_trace()

    def _end_trace(self) -> None:
        if self._recorder is not None:
            self._recorder.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate()
        else:
            self.shutdown()

    def __del__(self) -> None:
        # Dropped without a word: what was submitted is still finished.  No lock may be taken here.
        driver = getattr(self, "_driver", None)
        if driver is None or driver.closed.is_set():
            return
        if driver.reactor.running:
            driver.reactor.call_soon(driver.shutdown)
        else:  # it was never used
            registry.discard(driver)

    def __reduce__(self) -> Any:
        raise TypeError("a Pool can't be pickled: its workers belong to this process")

    def __repr__(self) -> str:
        chosen = self.decision
        return f"<treadle.Pool {chosen if chosen else 'auto, measuring'}, workers={self._driver.limit}>"


class PoolWithOptions:
    """A pool, and what holds for each task that is submitted through it; see `Pool.options`."""

    def __init__(self, pool: Pool, options: TaskOptions) -> None:
        self._pool = pool
        self._options = options

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """As `Pool.submit`."""
        return self._pool._submit(fn, args, kwargs, self._options)

    def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """As `Pool.asubmit`."""
        import asyncio

        return asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **how: Any) -> MapIterator:
        """As `Pool.map`."""
        return self._pool.map(fn, *iterables, **{**self._named(), **how})

    def amap(
        self, fn: Callable[..., Any], *iterables: Iterable[Any] | AsyncIterable[Any], **how: Any
    ) -> AsyncMapIterator:
        """As `Pool.amap`."""
        return self._pool.amap(fn, *iterables, **{**self._named(), **how})

    def options(self, **options: Any) -> PoolWithOptions:
        """The same pool with other options; those that are not named are as they were."""
        return self._pool.options(**{**self._named(), **options})

    def _named(self) -> dict[str, Any]:
        options = self._options
        return {**{name: getattr(options, name) for name in TASK_OPTIONS}, **dict(options.resources)}


def map(
    fn: Callable[..., Any],
    *iterables: Iterable[Any],
    engine: EngineName | str | PublicEngine = "auto",
    address: Any = None,
    workers: int | None = None,
    ordered: bool = True,
    timeout: float | None = None,
    retries: int = 0,
    backoff: float = 0.0,
    retry_on: RetryOn | None = None,
    memory_limit: int | None = None,
    on_error: OnError = "raise",
    progress: bool = False,
    buffer: int | None = None,
    prefetch: bool = False,
    start_method: StartMethod | None = None,
    stream: bool = False,
    trace: str | os.PathLike[str] | None = None,
) -> MapIterator:
    """Call `fn` with each item on several workers; a lazy iterator over the results.

    With several `iterables`, `fn` gets one argument from each, until the shortest is exhausted.  They may be infinite:
    nothing runs before the first `next`, and never more than `buffer` items (default: it adapts) are submitted and
    unread, so memory stays flat.

    `engine`, `address` and `workers` are as in `Pool`.  With `ordered` results come in the order of the input, else as
    they arrive.  `timeout` is the seconds that one attempt may take; a process is killed then, a thread abandoned.
    `retries` is how many further attempts a failed item gets; `backoff`, `retry_on` and `memory_limit` are as in
    `Pool.options`.

    `on_error` says what becomes of a failed item: ``"raise"`` its exception and end the iteration, ``"return"`` the
    exception object in place of a result, or ``"skip"`` it.  Every such exception has the attribute ``task`` with the
    item, its index, the attempts, the worker's pid and the remote traceback.

    The iterable is read in the thread that iterates.  If it may take its time for an item (a socket, ``tail -f``), have
    it read in a thread of its own with `prefetch`: then results come out while the next item is waited for.  (Such a
    map is not ended by dropping it; read it to its end, or `close` it.)

    The workers stay warm for the next `map` with the same `engine`, `workers` and `start_method`, which need not wait
    for new ones: until they have been idle for a minute, or the environment, the folder or `sys.path` has changed.  So
    what a worker has imported is not imported again.  Not with start method ``"fork"``, nor after a map that was left
    early: that ends its workers.

    With `stream`, `fn` is a generator function (or returns any iterable), and each value that it yields is a result of
    its own, as soon as it is there.  With `ordered` all values of an input come before those of the next, else as they
    arrive.  A worker runs ahead of the reader by 64 values or a megabyte, and what is on its way, and waits then
    (which counts for `timeout`).  Where it fails in the middle, the values so far come first, then the error; `retries`
    are only for what has yielded nothing yet.  Leaving the iteration ends the generators.

    `trace` is a file for what every thread and process of the program runs and waits for meanwhile; see `Pool`.

    `progress` shows a bar on stderr.  Raises TypeError and ValueError for bad arguments, at the call.
    """
    check_pool(workers, engine, start_method, address)
    task = task_options(timeout, retries, backoff, retry_on, 0, memory_limit, stream)
    options = check_map(fn, ordered, task, on_error, progress, buffer, prefetch)
    if engine == "threads":
        if task is not DEFAULT:
            from .engines.threads import refuse_in_threads

            refuse_in_threads(task)
    elif engine != "auto" and task is not DEFAULT:
        catalog.abilities(engine).accept(engine if isinstance(engine, str) else engine.name, task)
    if engine == "inline":
        options = _one_by_one(options)

    def open_owner() -> tuple[Owned, Callable[[], None], int]:
        machinery = _machinery(engine, start_method)
        recorder = _record(trace)
        try:
            owned: Owned = machinery.lease(workers, engine, start_method, address, recorder)
            try:
                if task is not DEFAULT:
                    owned.driver.engine.accept(task)
            except BaseException:  # an engine of somebody's own may refuse what it likes
                owned.driver.terminate()
                raise
        except BaseException:
            if recorder is not None:
                recorder.finish()
            raise
        return owned, owned.leave, owned.driver.limit

    return _iterator(stream)(open_owner, fn, iterables, options)


# -- making and checking


def _machinery(engine: Any, start_method: Any) -> ModuleType:
    """What makes drivers.  If it will start processes, their nursery starts while that is loaded."""
    if start_method != "fork" and (engine == "processes" or (engine == "auto" and interpreter_lock())):
        client.program.begin()
    from . import opening

    return opening


def _iterator(stream: bool) -> type[MapIterator]:
    from .maps import MapIterator

    if not stream:
        return MapIterator
    from .streams import StreamIterator

    return StreamIterator


def _record(trace: str | os.PathLike[str] | None) -> Recorder | None:
    if trace is None:
        return None
    from ..recording import Recorder  # most programs never record

    return Recorder(trace)


def check_pool(workers: Any, engine: Any, start_method: Any, address: Any = None) -> None:
    """Raise ValueError or TypeError for what a pool can't be made with."""
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise TypeError(f"workers must be a whole number or None, not {workers!r}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
    if engine not in ("auto", "threads", "processes") or address is not None:
        catalog.check(engine, address)
    if start_method is not None and start_method not in START_METHODS:
        raise ValueError(f"start_method must be one of {', '.join(START_METHODS)}, not {start_method!r}")
    catalog.refuse_start_method(engine, start_method)


def _one_by_one(options: MapOptions) -> MapOptions:
    """For a map whose calls run in its reader's thread: none of them before its result is asked for."""
    return options if options.buffer is not None else options._replace(buffer=1)


def check_map(
    fn: Any, ordered: Any, task: TaskOptions, on_error: Any, progress: Any, buffer: Any, prefetch: Any
) -> MapOptions:
    """Raise ValueError or TypeError for what a map can't be made with."""
    if not callable(fn):
        raise TypeError(f"the function must be callable, not {fn!r}")
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}")
    if task.stream and (progress or prefetch or buffer is not None):
        raise ValueError("a map that streams has no progress, prefetch or buffer")
    if buffer is not None:
        if isinstance(buffer, bool) or not isinstance(buffer, int):
            raise TypeError(f"buffer must be a whole number of items or None, not {buffer!r}")
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1 item, not {buffer}")
    return MapOptions(bool(ordered), on_error, buffer, bool(progress), bool(prefetch), task)
