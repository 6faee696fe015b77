"""`Pool`: the front door."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from ..errors import TaskNotPicklable
from . import registry, stats
from .amaps import AsyncMapIterator
from .decision import Decision
from .driver import Driver
from .engines.auto import AutoEngine
from .engines.base import Engine
from .engines.processes import ProcessEngine
from .engines.threads import ThreadEngine
from .failures import describe_task
from .future import Future
from .launch.base import START_METHODS
from .maps import MapIterator, MapOptions, OnError
from .reactor import Reactor
from .task import Call, Task

EngineName = Literal["auto", "threads", "processes"]
StartMethod = Literal["forkserver", "spawn", "fork"]
ENGINES = ("auto", "threads", "processes")
ON_ERROR = ("raise", "return", "skip")

_names = itertools.count(1)


class Pool(concurrent.futures.Executor):
    """Workers that run functions: an `Executor` that survives what its tasks do.

    `workers` is how many tasks may run at once (default: as many as the engine finds sensible).  `engine` is
    ``"threads"`` for work that waits, ``"processes"`` for work that computes or may crash, or ``"auto"``: run the
    first calls for real, measure them, and choose.  `start_method` says how processes are made: ``"forkserver"``
    (default), ``"spawn"`` or ``"fork"``.

    Workers start when there is work for them.  Leaving the `with` block, or the program, finishes the work; Ctrl-C
    ends it.  Every method may be called from any thread, but not from another process.

    Raises ValueError for a number of workers below 1, an unknown engine or an unknown start method.
    """

    def __init__(
        self, workers: int | None = None, engine: EngineName = "auto", *, start_method: StartMethod | None = None
    ) -> None:
        check_pool(workers, engine, start_method)
        self._driver = open_driver(workers, engine, start_method, finish=True)

    # -- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` on a worker; its result comes with the future.

        All keywords are the function's own; for a time-out or retries use `options`.  Raises `PoolClosed` after
        `shutdown`, TypeError if `fn` can't be called.  What can't be pickled is reported by the future.
        """
        return self._submit(fn, args, kwargs, None, 0)

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        retries: int,
    ) -> Future:
        if not callable(fn):
            raise TypeError(f"the function must be callable, not {fn!r}")
        driver = self._driver
        future = Future(driver)
        try:
            call = driver.engine.encode(fn, args, kwargs, None)
        except TaskNotPicklable as error:
            if driver.closing:
                raise driver.refusal()
            future.set_exception(describe_task(error, Task(Call(fn, args, kwargs), future)))
            return future
        task = Task(call, future, None, timeout, retries)
        future.attach(task)
        if not driver.submit([task]):
            raise driver.refusal()
        return future

    def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """The same for asyncio: ``result = await pool.asubmit(fn, x)``.  Needs a running event loop."""
        return asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        retries: int = 0,
        on_error: OnError = "raise",
        progress: bool = False,
        buffer: int | None = None,
        prefetch: bool = False,
    ) -> MapIterator:
        """As `treadle.map`, on this pool.  `chunksize` is accepted and ignored: batches adapt by themselves."""
        options = check_map(fn, ordered, timeout, retries, on_error, progress, buffer, prefetch)
        return MapIterator(lambda: (self, False, self._driver.limit), fn, iterables, options)

    def amap(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        ordered: bool = True,
        retries: int = 0,
        on_error: OnError = "raise",
        buffer: int | None = None,
    ) -> AsyncMapIterator:
        """As `map`, for asyncio: ``async for result in pool.amap(fn, items)``.  Iterables may be asynchronous."""
        options = check_map(fn, ordered, timeout, retries, on_error, False, buffer, False)
        return AsyncMapIterator(self, fn, iterables, options, self._driver.limit)

    def options(self, *, timeout: float | None = None, retries: int = 0) -> PoolWithOptions:
        """This pool with options for each task: ``pool.options(timeout=3, retries=2).submit(fn, x)``.

        `timeout` is in seconds and counts from the start of each attempt; `retries` is how many further attempts a
        failed task gets, whatever made it fail.
        """
        check_task(timeout, retries)
        return PoolWithOptions(self, timeout, retries)

    # -- around it

    @property
    def driver(self) -> Driver:
        """The machinery; not part of the public interface."""
        return self._driver

    @property
    def decision(self) -> Decision | None:
        """Which engine runs new tasks and why; None while `auto` is still measuring."""
        return decision(self._driver)

    def stats(self) -> stats.PoolStats:
        """Workers with pid and running task, and counts of tasks queued, done, failed and cancelled."""
        return stats.take(self._driver)

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

    def terminate(self) -> None:
        """End everything now: queued and running tasks are cancelled, processes are killed."""
        self._driver.terminate()

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

    def __init__(self, pool: Pool, timeout: float | None, retries: int) -> None:
        self._pool = pool
        self._timeout = timeout
        self._retries = retries

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """As `Pool.submit`."""
        return self._pool._submit(fn, args, kwargs, self._timeout, self._retries)

    def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """As `Pool.asubmit`."""
        return asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **how: Any) -> MapIterator:
        """As `Pool.map`."""
        return self._pool.map(fn, *iterables, **{"timeout": self._timeout, "retries": self._retries, **how})

    def amap(
        self, fn: Callable[..., Any], *iterables: Iterable[Any] | AsyncIterable[Any], **how: Any
    ) -> AsyncMapIterator:
        """As `Pool.amap`."""
        return self._pool.amap(fn, *iterables, **{"timeout": self._timeout, "retries": self._retries, **how})

    def options(self, *, timeout: float | None = None, retries: int = 0) -> PoolWithOptions:
        """The same pool with other options."""
        return self._pool.options(timeout=timeout, retries=retries)


class _Owned:
    """The pool of one `treadle.map`: nobody else sees it."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    @property
    def decision(self) -> Decision | None:
        return decision(self.driver)

    def stats(self) -> stats.PoolStats:
        return stats.take(self.driver)


def map(
    fn: Callable[..., Any],
    *iterables: Iterable[Any],
    engine: EngineName = "auto",
    workers: int | None = None,
    ordered: bool = True,
    timeout: float | None = None,
    retries: int = 0,
    on_error: OnError = "raise",
    progress: bool = False,
    buffer: int | None = None,
    prefetch: bool = False,
    start_method: StartMethod | None = None,
) -> MapIterator:
    """Call `fn` with each item on several workers; a lazy iterator over the results.

    With several `iterables`, `fn` gets one argument from each, until the shortest is exhausted.  They may be infinite:
    nothing runs before the first `next`, and never more than `buffer` items (default: it adapts) are submitted and
    unread, so memory stays flat.

    `engine` and `workers` are as in `Pool`.  With `ordered` results come in the order of the input, else as they
    arrive.  `timeout` is the seconds that one attempt may take; a process is killed then, a thread abandoned.
    `retries` is how many further attempts a failed item gets.

    `on_error` says what becomes of a failed item: ``"raise"`` its exception and end the iteration, ``"return"`` the
    exception object in place of a result, or ``"skip"`` it.  Every such exception has the attribute ``task`` with the
    item, its index, the attempts, the worker's pid and the remote traceback.

    The iterable is read in the thread that iterates.  If it may take its time for an item (a socket, ``tail -f``), have
    it read in a thread of its own with `prefetch`: then results come out while the next item is waited for.  (Such a
    map is not ended by dropping it; read it to its end, or `close` it.)

    `progress` shows a bar on stderr.  Raises TypeError and ValueError for bad arguments, at the call.
    """
    check_pool(workers, engine, start_method)
    options = check_map(fn, ordered, timeout, retries, on_error, progress, buffer, prefetch)

    def open_owner() -> tuple[_Owned, bool, int]:
        driver = open_driver(workers, engine, start_method, finish=False)
        return _Owned(driver), True, driver.limit

    return MapIterator(open_owner, fn, iterables, options)


# -- making and checking


def open_driver(workers: int | None, engine: EngineName, start_method: StartMethod | None, finish: bool) -> Driver:
    """A new driver, known to the registry until it has closed."""

    def factory(driver: Driver, reactor: Reactor) -> Engine:
        if engine == "threads":
            return ThreadEngine(driver)
        if engine == "processes":
            return ProcessEngine(driver, reactor, start_method or "forkserver")
        return AutoEngine(driver, reactor, start_method or "forkserver")

    driver = Driver(factory, workers, f"treadle-pool-{next(_names)}", registry.discard)
    registry.add(driver, finish)
    return driver


def decision(driver: Driver) -> Decision | None:
    """Which engine a driver uses, and why."""
    engine = driver.engine
    if isinstance(engine, AutoEngine):
        return engine.decision
    return Decision(engine.name, "asked for")


def check_pool(workers: Any, engine: Any, start_method: Any) -> None:
    """Raise ValueError or TypeError for what a pool can't be made with."""
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise TypeError(f"workers must be a whole number or None, not {workers!r}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if start_method is not None and start_method not in START_METHODS:
        raise ValueError(f"start_method must be one of {', '.join(START_METHODS)}, not {start_method!r}")


def check_task(timeout: Any, retries: Any) -> None:
    """Raise ValueError or TypeError for what can't be an option of a task."""
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries must not be negative: {retries}")


def check_map(
    fn: Any, ordered: Any, timeout: Any, retries: Any, on_error: Any, progress: Any, buffer: Any, prefetch: Any
) -> MapOptions:
    """The same for a map."""
    if not callable(fn):
        raise TypeError(f"the function must be callable, not {fn!r}")
    check_task(timeout, retries)
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}")
    if buffer is not None:
        if isinstance(buffer, bool) or not isinstance(buffer, int):
            raise TypeError(f"buffer must be a whole number of items or None, not {buffer!r}")
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1 item, not {buffer}")
    return MapOptions(bool(ordered), timeout, retries, on_error, buffer, bool(progress), bool(prefetch))
