"""What the asynchronous calls of a pool return."""

from __future__ import annotations

import builtins
import multiprocessing.pool
import types
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from multiprocessing.context import TimeoutError
from typing import TYPE_CHECKING, Any

from ..errors import ResultNotPicklable, TaskNotPicklable
from ..pool.failures import describe_task
from ..pool.future import Future
from ..pool.results import resolve
from ..pool.task import CANCELLED, Call, Task
from .callbacks import Callbacks

if TYPE_CHECKING:
    from ..pool.driver import Driver

Callback = Callable[[Any], object]
_stdlib: Any = multiprocessing.pool


class MaybeEncodingError(ResultNotPicklable, _stdlib.MaybeEncodingError):  # type: ignore[misc]
    """The call returned something that can't be pickled.  `value` and `exc` are the texts of that and of the reason."""

    def __init__(self, exc: Any, value: Any) -> None:
        Exception.__init__(self, exc, value)
        self.exc = exc
        self.value = value

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.exc, self.value), self.__dict__.copy()


def as_here(error: BaseException) -> BaseException:
    """An exception of the engine's, as programs written for the standard library's pool expect it."""
    if type(error) is ResultNotPicklable:
        found: BaseException = MaybeEncodingError(error.reason or str(error), error.value or str(error))
    elif type(error) is TaskNotPicklable and error.__cause__ is not None:
        found = error.__cause__
        found.add_note(f"treadle: {error}")
    else:
        return error
    for name in ("task", "__notes__"):
        if hasattr(error, name) and not hasattr(found, name):
            setattr(found, name, getattr(error, name))
    return found


class FutureWithCallbacks(Future):
    """Calls back before it is done: who gets the result may rely on that."""

    def __init__(
        self, driver: Driver, callbacks: Callbacks, callback: Callback | None, error_callback: Callback | None
    ) -> None:
        super().__init__(driver)
        self._caller = callbacks
        self._callbacks = callback, error_callback

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """The task has ended (see `task.Sink`)."""
        if kind == CANCELLED:
            super().deliver(task, kind, data)
        else:
            self._task = None
            self.end(*resolve(task, kind, data))

    def end(self, ok: bool, value: Any) -> None:
        """It has come to this value, or exception."""
        if not ok:
            value = as_here(value)
        callback = self._callbacks[0 if ok else 1]
        if callback is not None:
            self._caller.call(lambda: self._call(callback, ok, value))
        elif ok:
            self.succeed(value)
        elif not isinstance(value, CancelledError):
            self.fail(value)  # it is logged if nobody looks at it
        else:
            self.set_exception(value)

    def _call(self, callback: Callback, ok: bool, value: Any) -> None:
        self._callbacks = None, None
        try:
            callback(value)
        except BaseException as error:
            report(callback, error)
        if ok:
            self.succeed(value)
        else:
            self.set_exception(value)

    def _wait(self, timeout: float | None) -> None:
        if self._caller.inside and self._callbacks != (None, None) and not self.done():
            raise RuntimeError("a callback of a pool can't wait for a call whose own callback has its turn after it")
        super()._wait(timeout)


def report(callback: Callback, error: BaseException) -> None:
    """A callback has raised: nobody else can be told."""
    import logging

    name = getattr(callback, "__qualname__", None) or type(callback).__name__
    logging.getLogger("treadle.pool").error("the callback %s raised an exception", name, exc_info=error)


def submit(
    driver: Driver, future: Future, fn: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Future:
    """Let a future that was made beforehand have the result.  Raises `PoolClosed`."""
    if not callable(fn):
        raise TypeError(f"the function must be callable, not {fn!r}")
    args, kwargs = tuple(args), dict(kwargs)
    if driver.closing:
        raise driver.refusal()
    try:
        call = driver.engine.encode(fn, args, kwargs, None)
    except TaskNotPicklable as error:
        trouble = describe_task(error, Task(Call(fn, args, kwargs), future))
        assert isinstance(future, FutureWithCallbacks)
        # Not in this thread, which may hold a lock that the callback takes.
        driver.reactor.start()
        driver.reactor.call_soon(lambda: future.end(False, trouble))
        return future
    task = Task(call, future)
    future._task = task
    if not driver.submit([task]):
        raise driver.refusal()
    return future


class ApplyResult:
    """What a call will come to.  Thread-safe."""

    __slots__ = ("__weakref__", "_future")
    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, future: Future) -> None:
        self._future = future

    def get(self, timeout: float | None = None) -> Any:
        """The value that the call returned; waits for it at most `timeout` seconds.

        Raises what the call raised, and `multiprocessing.TimeoutError` if it is not done in time.
        """
        future = self._future
        try:
            return future.result(timeout)
        except BaseException as error:
            # Not to be taken for one that the call has raised.
            if isinstance(error, builtins.TimeoutError) and not future.done():
                raise TimeoutError from None
            here = as_here(error)
            if here is error:
                raise
            raise here from here.__cause__

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, at most `timeout` seconds."""
        self._future._wait(timeout)

    def ready(self) -> bool:
        """Is the result there?"""
        return self._future.done()

    def successful(self) -> bool:
        """Has the call returned without an exception?  Raises ValueError unless the result is there."""
        if not self._future.done():
            raise ValueError(f"{self!r} not ready")
        return not self._future.cancelled() and self._future.exception() is None


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """What a map will come to: a list of values."""

    __slots__ = ()
