"""What the executors have in common: a pool, and the words of `concurrent.futures` for it."""

from __future__ import annotations

import itertools
import operator
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import PoolClosed

if TYPE_CHECKING:
    from ..pool.future import Future
    from ..pool.pool import Pool

__all__ = ["Face", "Results", "workers"]


def workers(count: Any) -> int | None:
    """A number of workers as the standard library takes it.  Raises its ValueError."""
    if count is None:
        return None
    count = operator.index(count)
    if count <= 0:
        raise ValueError("max_workers must be greater than 0")
    return int(count)


class Face:
    """Mixed into each executor, before the standard library's class, whose own machinery is never started."""

    _has_chunks = False  # does the standard library's executor of that kind look at `chunksize`?
    _pool: Pool  # Invariant: held by the executor alone, so that dropping it finishes its work

    def _adopt(self, pool: Pool) -> None:
        """From now on the executor is a face of this pool."""
        self._pool = pool
        # `Future.cancel` says False of a call that runs, as it always has; but it ends one that asyncio has waited for.
        pool.driver.cancel_running = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` on a worker; its result comes with the future.

        Raises RuntimeError after `shutdown`, TypeError if `fn` can't be called.  What can't be pickled is reported by
        the future.
        """
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except PoolClosed:
            if self._pool.driver.owner != os.getpid():
                raise
            raise RuntimeError("cannot schedule new futures after shutdown") from None

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Results:
        """The results of ``map(fn, *iterables)``, in order; the calls may run at the same time.

        The iterables are read at once, and all calls submitted; with `buffersize` only so many, and one more each time
        a result is taken, so that endless ones are welcome.  `chunksize` is accepted and ignored: batches adapt by
        themselves.  `timeout` is in seconds, counted from this call.

        Raises ValueError for a `buffersize`, and for processes a `chunksize`, below 1.  `next` raises what the call
        raised, or TimeoutError; then, and when the iterator is closed or dropped, calls that have not started are
        cancelled.
        """
        if chunksize < 1 and self._has_chunks:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        return Results(self, fn, zip(*iterables, strict=False), timeout, buffersize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; finish those that there are, or, with `cancel_futures`, those that have started.

        With `wait`, return when all is over.  Ctrl-C while waiting ends everything.
        """
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # The workers do not get the terminal's Ctrl-C, so that nobody but us ends them.
            self._pool.terminate()
        else:
            self.shutdown()

    # -- what programs look at, although it is not documented

    @property
    def _max_workers(self) -> int:
        return self._pool.driver.limit

    @property
    def _shutdown(self) -> bool:
        return self._pool.driver.closing

    def __repr__(self) -> str:
        return f"<treadle.futures.{type(self).__name__}, workers={self._max_workers}>"


class Results(Iterator[Any]):
    """What `map` returns.  Iterate it from one thread at a time.

    Its length is the number of calls, for progress displays; with `buffersize` it is not known.
    """

    def __init__(
        self,
        executor: Face,
        fn: Callable[..., Any],
        inputs: Iterator[tuple[Any, ...]],
        timeout: float | None,
        buffersize: int | None,
    ) -> None:
        self._begun = False  # has anything been read?  Calls of which nobody has read anything go on when it is dropped
        self._until = None if timeout is None else time.monotonic() + timeout
        # Only with `buffersize`.  Not the executor itself: to be dropped shuts it down, as ever.
        self._submit: Callable[[], Future | None] | None = None
        self._futures: deque[Future] = deque()  # those not read, in order
        try:
            for args in inputs if buffersize is None else itertools.islice(inputs, buffersize):
                self._futures.append(executor.submit(fn, *args))
        except BaseException:
            self.close()
            raise
        self._length = len(self._futures) if buffersize is None else None
        if buffersize is not None:
            self._submit = _more(weakref.ref(executor), fn, inputs)

    def __next__(self) -> Any:
        self._begun = True
        if not self._futures:
            raise StopIteration
        future = None
        try:
            if self._submit is not None and (another := self._submit()) is not None:
                self._futures.append(another)
            future = self._futures.popleft()
            return future.result(None if self._until is None else max(0.0, self._until - time.monotonic()))
        except BaseException as error:
            if future is not None:
                future.cancel()
            self.close()
            if isinstance(error, StopIteration):
                raise RuntimeError("the call raised StopIteration") from error
            raise
        finally:
            del future  # an exception's traceback holds this frame: not the exception in turn

    def close(self) -> None:
        """Read no more: cancel the calls that have not started."""
        futures, self._submit = self._futures, None
        # The last first: what is at the front may start while the others are being cancelled.
        while futures:
            futures.pop().cancel()

    def __del__(self) -> None:
        if getattr(self, "_begun", False):
            _drop(self._futures)

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the number of results is not known")
        return self._length

    def __length_hint__(self) -> int:
        return len(self._futures)

    def __bool__(self) -> bool:
        return True


def _more(
    executor: weakref.ref[Face], fn: Callable[..., Any], inputs: Iterator[tuple[Any, ...]]
) -> Callable[[], Future | None]:
    def submit() -> Future | None:
        owner = executor()
        args = None if owner is None else next(inputs, None)
        return None if owner is None or args is None else owner.submit(fn, *args)

    return submit


def _drop(futures: deque[Future]) -> None:
    """Cancel in the reactor's thread: a finalizer may come in the middle of anything, so it takes no lock."""
    if futures:
        driver = futures[0]._driver
        left = list(futures)
        futures.clear()
        driver.reactor.call_soon(lambda: [future.cancel() for future in left])  # type: ignore[arg-type]
