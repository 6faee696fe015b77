"""What holds for one task, and what holds for one pool: checked once, and never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

IDLE_SECONDS = 60.0  # so long a worker may have nothing to do before it leaves
START_SECONDS = 300.0  # so long a worker may take until its initializer has returned
BACKOFF_CAP = 60.0  # seconds: no wait before a retry is longer

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]


class TaskOptions(NamedTuple):
    """How one task, or each of a map, is to be run.  Immutable, so that many tasks may share one.

    The fast path of the pool asks ``options is DEFAULT``: make one only through `task_options`.
    """

    timeout: float | None = None  # seconds an attempt may run; None: for ever
    retries: int = 0  # further attempts after the first
    backoff: float = 0.0  # seconds before the first retry; it doubles, see `pause`
    retry_on: RetryOn | None = None  # which exceptions are worth a retry; None: all
    priority: int = 0  # higher runs first
    memory_limit: int | None = None  # bytes that an attempt may allocate; None: what there is
    stream: bool = False  # the function is a generator: its items come one by one
    # What an attempt needs beside a worker, for engines that know such things: names and amounts, sorted.
    resources: tuple[tuple[str, float], ...] = ()

    def pause(self, attempt: int) -> float:
        """Seconds to wait, before jitter, after so many attempts have failed."""
        if not self.backoff:
            return 0.0
        return min(BACKOFF_CAP, self.backoff * 2.0 ** min(attempt - 1, 60))


DEFAULT = TaskOptions()


class PoolOptions(NamedTuple):
    """How the workers of one pool begin and end."""

    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks_per_worker: int | None = None
    max_memory_per_worker: int | None = None  # bytes
    idle_timeout: float | None = IDLE_SECONDS
    start_timeout: float | None = START_SECONDS
    dumps: Callable[[Any], bytes] | None = None  # how things of the main module are pickled; None: by value


PLAIN = PoolOptions()


def task_options(
    timeout: Any = None,
    retries: Any = 0,
    backoff: Any = 0.0,
    retry_on: Any = None,
    priority: Any = 0,
    memory_limit: Any = None,
    stream: Any = False,
    resources: Any = (),
) -> TaskOptions:
    """Checked options; `DEFAULT` itself where nothing is asked for.  Raises ValueError or TypeError."""
    _seconds("timeout", timeout)
    _whole("retries", retries, 0)
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)):
        raise TypeError(f"backoff must be a number of seconds, not {backoff!r}")
    if not 0 <= backoff < float("inf"):
        raise ValueError(f"backoff must be a number of seconds, not {backoff}")
    if retry_on is not None and not callable(retry_on) and not _are_exceptions(retry_on):
        raise TypeError(f"retry_on must be exception types or a function of the exception, not {retry_on!r}")
    if isinstance(retry_on, type) and not issubclass(retry_on, BaseException):
        raise TypeError(f"retry_on must be an exception type, not {retry_on!r}")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be a whole number, not {priority!r}")
    if memory_limit is not None:
        _whole("memory_limit", memory_limit, 1)
    resources = _resources(resources)
    options = TaskOptions(timeout, retries, float(backoff), retry_on, priority, memory_limit, bool(stream), resources)
    return DEFAULT if options == DEFAULT else options


def pool_options(
    initializer: Any = None,
    initargs: Any = (),
    max_tasks_per_worker: Any = None,
    max_memory_per_worker: Any = None,
    idle_timeout: Any = "auto",
    start_timeout: Any = START_SECONDS,
) -> PoolOptions:
    """Checked options of a pool.  Raises ValueError or TypeError."""
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be callable, not {initializer!r}")
    if max_tasks_per_worker is not None:
        _whole("max_tasks_per_worker", max_tasks_per_worker, 1)
    if max_memory_per_worker is not None:
        _whole("max_memory_per_worker", max_memory_per_worker, 1)
    if idle_timeout == "auto":  # a worker that an initializer has made ready may be dear
        idle_timeout = IDLE_SECONDS if initializer is None else None
    _seconds("idle_timeout", idle_timeout)
    _seconds("start_timeout", start_timeout)
    options = PoolOptions(
        initializer, tuple(initargs), max_tasks_per_worker, max_memory_per_worker, idle_timeout, start_timeout
    )
    return PLAIN if options == PLAIN else options


def _seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must not be negative: {value}" if least == 0 else f"{name} must be at least 1")


def _resources(value: Any) -> tuple[tuple[str, float], ...]:
    found = tuple(sorted((name, amount) for name, amount in dict(value).items() if amount is not None))
    for name, amount in found:
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"{name} must be a number, not {amount!r}")
        if not 0 <= amount < float("inf"):
            raise ValueError(f"{name} must not be negative: {amount}")
    return found


def _are_exceptions(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(each, type) and issubclass(each, BaseException) for each in value
    )
