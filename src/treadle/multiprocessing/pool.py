"""`multiprocessing.pool`: the standard library's interface, on treadle's own pool.

Beyond the standard library's contract:

- Leaving the `with` block, or the program, finishes the work; an exception in the block ends it, and so does Ctrl-C.
  ``close()`` and ``join()`` at the end are allowed, and not needed.
- A worker that is killed, or crashes, costs the call that it was running, which fails with `treadle.errors.WorkerDied`
  within a second.  The pool goes on.
- A callback that raises is reported, and harms nothing.
- Lambdas, closures and what ``__main__`` defines can be called under every start method.
- Workers start when there is work for them, or at once if they have an initializer.
- ``map`` needs no chunk size: chunks follow the time that calls take.

After `terminate` the results that are not there yet raise `concurrent.futures.CancelledError`; they don't hang.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as _stdlib
from multiprocessing import process
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from types import TracebackType
from typing import Any, Self

from treadle.errors import RemoteTraceback

from ..pool import birth, main_module, opening, payloads
from ..pool import pool as engine
from ..pool.bulk import Bulk
from ..pool.chunks import Many
from ..pool.cpus import available_cpus
from ..pool.launch import client
from ..pool.main_pickling import Inherited, dumps_for_worker
from ..pool.options import DEFAULT, pool_options
from .async_result import ApplyResult, AsyncResult, Callback, FutureWithCallbacks, MapResult, MaybeEncodingError, submit
from .callbacks import Callbacks
from .contexts import CONCRETE, default
from .faces import stand_in_for
from .imap import IMapIterator, IMapUnorderedIterator, Stream
from .jobs import Jobs
from .workers import PoolWorker, workers_of

__all__ = [
    "ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "MaybeEncodingError", "Pool",
    "RemoteTraceback", "ThreadPool",
]  # fmt: skip

_NOTHING: Mapping[str, Any] = {}


class Pool:
    """Processes that call functions.

    `processes` is how many calls may run at once (default: as many as this process may use CPUs).  Each process calls
    ``initializer(*initargs)`` first, and is replaced after `maxtasksperchild` tasks, if that is given.  `context` says
    how processes are started.  Every method may be called from any thread, but not from another process.

    Raises ValueError for a number below 1, TypeError for an `initializer` that can't be called.
    """

    _engine: engine.EngineName = "processes"
    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._ctx = context or default.get_context()
        if processes is None:
            processes = available_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._inner = self._open(initializer, tuple(initargs), maxtasksperchild)
        self._driver = self._inner.driver
        self._jobs = Jobs(self._inner)
        self._callbacks = Callbacks()
        self._state = RUN
        if initializer is not None:  # somebody may wait for what it does, without giving them work
            self._driver.warm()

    def _open(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], maxtasks: int | None
    ) -> engine.Pool:
        return ProcessPool(self._processes, _start_method(self._ctx), initializer, initargs, maxtasks)

    # -- calls

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = _NOTHING) -> Any:
        """Call ``func(*args, **kwds)`` in a worker, and return what it returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NOTHING,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> ApplyResult:
        """The same without waiting for it.

        When it has returned, ``callback(value)`` is called in this process, in a thread of the pool's; when it has
        failed, ``error_callback(exception)``.  Callbacks of a pool are called one at a time.  The result is `ready`
        after that.
        """
        if self._state != RUN:
            raise ValueError("Pool not running")
        if callback is None and error_callback is None:
            args = args if type(args) is tuple else tuple(args)
            return ApplyResult(self._inner._submit(func, args, dict(kwds) if kwds else {}, DEFAULT))
        return ApplyResult(submit(self._driver, self._future(callback, error_callback), func, args, kwds))

    def _future(self, callback: Callback | None, error_callback: Callback | None) -> FutureWithCallbacks:
        return FutureWithCallbacks(self._driver, self._callbacks, callback, error_callback)

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """A list of what `func` returns for each item.  `chunksize` is not needed: chunks follow the calls' time.

        All items are tried; if any has failed, the first failure is raised at the end.
        """
        return self._map(func, iterable, chunksize, False).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        """The same without waiting for it; the callbacks are as in `apply_async`."""
        return self._map(func, iterable, chunksize, False, callback, error_callback)

    def starmap(self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None) -> Any:
        """As `map`, for items that are tuples of arguments."""
        return self._map(func, iterable, chunksize, True).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        """As `map_async`, for items that are tuples of arguments."""
        return self._map(func, iterable, chunksize, True, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if not callable(func):
            raise TypeError(f"the function must be callable, not {func!r}")
        if chunksize is not None and chunksize < 0:
            raise ValueError(f"chunksize must not be negative: {chunksize}")
        items = iterable if isinstance(iterable, (list, tuple, range)) else list(iterable)
        if isinstance(items, list):
            items = list(items)  # what becomes of the caller's list later must not matter
        future = self._future(callback, error_callback)
        with self._jobs.new() as job:

            def done(ok: bool, value: Any) -> None:
                try:
                    future.end(ok, value)
                finally:
                    job.end()

            Bulk(self._driver, func, items, star, done).start()
        return MapResult(future)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """An iterator over what `func` returns for each item, in their order; the calls don't wait for its reader.

        An item that fails raises in its turn, and the iteration can go on after it.  With a `chunksize` that many
        items travel together.
        """
        return self._imap(func, iterable, chunksize, IMapIterator)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """The same, in the order in which they are done."""
        return self._imap(func, iterable, chunksize, IMapUnorderedIterator)

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, kind: type[IMapIterator]
    ) -> IMapIterator:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if not callable(func):
            raise TypeError(f"the function must be callable, not {func!r}")
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        with self._jobs.new() as job:
            fn = func if chunksize == 1 else Many(func, False, self._driver.engine.name != "threads", None)
            stream = Stream(self._driver, fn, iterable, chunksize, kind is IMapIterator, job)
            iterator = kind(stream)
            stream.start()
        return iterator

    # -- the end

    def close(self) -> None:
        """Take no more calls; those that there are will be done."""
        if self._state == RUN:
            self._state = CLOSE
            self._jobs.close()

    def terminate(self) -> None:
        """End everything now.  What is not done yet fails with `CancelledError`; processes are killed."""
        self._state = TERMINATE
        self._jobs.drop()
        self._inner.terminate()

    def join(self) -> None:
        """Wait until all is done and the workers have left.  Raises ValueError unless the pool was closed before."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._driver.wait_closed()

    # -- what programs know of the standard library's insides

    @property
    def _pool(self) -> list[PoolWorker]:
        """The workers.  Asking for them starts those that there are not yet."""
        return workers_of(self._driver, self._processes)

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """A process of that context.  The pool's own workers are made by its engine."""
        return ctx.Process(*args, **kwds)

    def _repopulate_pool(self) -> None:
        self._driver.warm()

    def __enter__(self) -> Self:
        if self._state != RUN:
            raise ValueError("Pool not running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.terminate()
            return
        try:
            self.close()
            self._jobs.leave()
            self.join()
        except BaseException:  # Ctrl-C
            self.terminate()
            raise

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={self._processes}>"


class ThreadPool(Pool):
    """The same with threads of this process."""

    _engine = "threads"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _open(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], maxtasks: int | None
    ) -> engine.Pool:
        return engine.Pool(self._processes, "threads", initializer=initializer, initargs=initargs)


class ProcessPool(engine.Pool):
    """The engine's pool, with workers that know the main module as the standard library's do."""

    _recorder = None  # its own __init__ records nothing

    def __init__(
        self,
        workers: int,
        method: engine.StartMethod,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        maxtasks: int | None,
    ) -> None:
        forked = method == "fork"
        if not forked:
            client.program.begin()  # it starts while the main module is looked at
        plan = None if forked else main_module.plan()
        known = Inherited() if plan is None else plan

        def dumps(value: Any) -> bytes:
            return dumps_for_worker(value, known)

        name = getattr(initializer, "__qualname__", None) or type(initializer).__name__
        blob = token = None
        if forked:
            token = next(_tokens)
            birth.inherited[token] = initializer, initargs
        elif initializer is not None:
            blob = _pack_initializer(initializer, initargs, dumps)
        kind = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[method]
        facts = birth.Facts(kind, bytes(process.current_process().authkey), plan)
        options = pool_options(birth.Birth(facts, name, blob, token), (), maxtasks)
        self._driver = opening.open_driver(workers, "processes", method, True, options._replace(dumps=dumps))
        if token is not None:
            weakref.finalize(self._driver, birth.inherited.pop, token, None)


_tokens = itertools.count(1)


def _pack_initializer(fn: Any, args: tuple[Any, ...], dumps: Callable[[Any], bytes]) -> bytes:
    before, payloads.policy.dumps = payloads.policy.dumps, dumps
    try:
        return payloads.dumps((fn, args))
    finally:
        payloads.policy.dumps = before


def _start_method(context: Any) -> engine.StartMethod:
    method: engine.StartMethod = context.get_start_method()
    if method not in CONCRETE:
        raise ValueError(f"a pool can't start processes in {context!r}")
    return method


stand_in_for(__name__, _stdlib)
