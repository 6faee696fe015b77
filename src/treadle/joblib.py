"""joblib on treadle's pool.

    import joblib
    import treadle.joblib

    treadle.joblib.register()
    with joblib.parallel_config(backend="treadle", n_jobs=4):
        joblib.Parallel()(joblib.delayed(fn)(x) for x in items)

A worker that dies fails its batch with `treadle.WorkerDied`; when a call fails, those that still run are ended at once.
Workers stay for the next `Parallel`, and leave when they have been idle for a minute.  ``parallel_config(engine=...)``
chooses ``"processes"`` (the default) or ``"threads"``, ``start_method=...`` how processes are made.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

try:
    from joblib.parallel import (
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
        register_parallel_backend,
    )
except ImportError as error:
    raise ImportError("treadle.joblib needs joblib: pip install joblib") from error

from .pool.cpus import available_cpus
from .pool.future import Future
from .pool.pool import Pool

__all__ = ["TreadleBackend", "register"]

_lock = threading.Lock()  # guards: _pools
# Those of this program, by what they were made with.
_pools: dict[tuple[int, str, str | None], Pool] = {}


def register(name: str = "treadle", make_default: bool = False) -> None:
    """Let joblib know the backend by that name; with `make_default`, let it be the one that is used unless told.

    May be called again.  Safe to call from any thread.
    """
    register_parallel_backend(name, TreadleBackend, make_default=make_default)


def _pool(n_jobs: int, engine: Any, start_method: Any) -> Pool:
    key = (n_jobs, engine, start_method)
    with _lock:
        pool = _pools.get(key)
        if pool is None or pool.driver.closing:  # shut down; or of the process that this one was forked from
            pool = _pools[key] = Pool(n_jobs, engine, start_method=start_method)
        return pool


def joblib_batch(batch: Callable[[], Any]) -> Any:
    """The one function that travels to the workers; a batch is its argument, so that nothing is kept of it there."""
    return batch()


class TreadleBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What joblib asks of a backend.  Joblib makes one for each `parallel_config`, and uses it in one thread at a time.

    Raises ValueError for an engine other than ``"processes"`` and ``"threads"``.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        engine: str = "processes",
        start_method: str | None = None,
        **options: Any,
    ) -> None:
        if engine not in ("processes", "threads"):
            raise ValueError(f"engine must be processes or threads, not {engine!r}")
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self.engine = engine
        self.start_method = start_method
        self.uses_threads = self.supports_sharedmem = engine == "threads"
        self._pool: Pool | None = None
        self._open: set[Future] = set()  # submitted and not done; only additions and removals of one, which are atomic

    def __reduce__(self) -> Any:
        return _again, (self.nesting_level, self.engine, self.start_method)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many run at once: -1 means all CPUs, -2 all but one.  Raises ValueError for 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, available_cpus() + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """At the beginning of each `Parallel`."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._pool = _pool(n_jobs, self.engine, self.start_method)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future:
        """Have a batch run; `callback` gets the future when it is done."""
        assert self._pool is not None
        future = self._pool.submit(joblib_batch, func)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # joblib before 1.5

    def retrieve_result_callback(self, out: Future) -> Any:
        """The results of a batch, or its exception."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed, or took too long: end the others."""
        for future in list(self._open):
            future.cancel()

    def terminate(self) -> None:
        """At the end of each `Parallel`: the workers stay for the next one."""
        self._pool = None
        self.reset_batch_stats()

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Around joblib's waiting: in a worker thread of the same pool, others may run meanwhile."""
        pool = self._pool
        if pool is None or pool.driver.engine.current_worker() is None:
            yield
            return
        with pool.driver.waiting("result"):
            yield


def _again(nesting_level: int | None, engine: str, start_method: str | None) -> TreadleBackend:
    return TreadleBackend(nesting_level=nesting_level, engine=engine, start_method=start_method)
