"""A `concurrent.futures.Future` that costs little until somebody waits for it."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from typing import TYPE_CHECKING, Any

from .._native import _core
from .results import resolve
from .task import ASSIGNED, CANCELLED, Task
from .unread import unread
from .waits import wait
from .watchdog import watchdog

if TYPE_CHECKING:
    from .driver import Driver

logger = logging.getLogger("concurrent.futures")  # as the standard library's futures do

_ENDED = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")


class Future(_core.FutureCore, concurrent.futures.Future[Any]):
    """The result of a `submit`, which will come: a `concurrent.futures.Future`, whose `cancel` ends a running call.

    If it has failed and nobody ever looks at it, the failure is logged when it is dropped.  Thread-safe.
    """

    # The standard future makes a lock and a condition at once, which costs more than a small task.  This one makes them
    # when somebody first waits, or adds a callback; until then C finishes it, see `_native/tasks/future_object.c`.

    __slots__ = ()

    _driver: Driver
    _task: Task | None

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """The task has ended (see `task.Sink`)."""
        self._task = None
        if kind == CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        ok, value = resolve(task, kind, data)
        if ok:
            self.succeed(value)
        else:
            self.fail(value)

    def succeed(self, value: Any) -> None:
        """It ends with this value."""
        if not self._succeed(value):
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """It ends with this exception.  If nobody ever looks at it, it is logged."""
        if self._fail(error):
            unread.add(self)
        else:
            self.set_exception(error)

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            try:
                watchdog.call(callback, self)
            except Exception:
                logger.exception("exception calling callback %r for %r", callback, self)

    def _wait_result(self, timeout: float | None = None) -> Any:
        """`result` where it is not simply there."""
        until = None if timeout is None else time.monotonic() + timeout
        if self._driver.fetch(self, timeout):
            return self._result
        self._wait(None if until is None else max(0.0, until - time.monotonic()))  # `fetch` has taken a part of it
        return concurrent.futures.Future.result(self, 0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits for it as `result` does."""
        self._wait(timeout)
        return concurrent.futures.Future.exception(self, 0)

    def _wait(self, timeout: float | None) -> None:
        if self._state in _ENDED:
            return
        with self._driver.waiting("future"):
            wait(self._sleep, timeout)

    def _sleep(self, seconds: float | None) -> bool:
        with self._condition:
            return bool(self._condition.wait_for(lambda: self._state in _ENDED, seconds))

    def cancel(self) -> bool:
        """Cancel the call; True if its result will never come.

        A call that a worker process runs already is ended: the process is killed, what else it was given moves on.  One
        that a thread runs can't be ended, and False is returned.
        """
        task = self._task
        if task is not None:
            self._driver.cancel([task], self._is_asyncios)
        return self.cancelled()

    @property
    def _is_asyncios(self) -> bool:
        """Does a future of asyncio stand for it?  If that is cancelled, there is nobody else who waits."""
        return any(getattr(each, "__module__", "") == "asyncio.futures" for each in list(self._done_callbacks))

    # Asked without the condition: that would be to look at it (see `unread`).

    def done(self) -> bool:
        """Has the call ended, or been cancelled?"""
        return self._state in _ENDED

    def cancelled(self) -> bool:
        """Was the call cancelled, so that it will never run?"""
        return self._state in _ENDED[1:]

    def running(self) -> bool:
        """Has the call been given to a worker, and not ended?"""
        task = self._task
        return task is not None and bool(task.state == ASSIGNED)


_core.hook("future_class", Future)
