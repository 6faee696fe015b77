"""A `concurrent.futures.Future` that costs little until somebody waits for it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..sync import Condition, Lock
from .results import resolve
from .task import ASSIGNED, CANCELLED, Task
from .waits import wait

if TYPE_CHECKING:
    from .driver import Driver

_FINISHED = "FINISHED"
_ENDED = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")

# Guards, for every future: the making of `_condition`, and the finishing of a future that has none.
_light = Lock()


class Future(concurrent.futures.Future[Any]):
    """The result of a `submit`, with the interface and the meaning of the standard library's.

    The standard future makes a lock and a condition at once, which costs more than a small task.  This one makes them
    when somebody first waits, or adds a callback.  Thread-safe.
    """

    def __init__(self, driver: Driver) -> None:
        # Instead of the inherited __init__: the same fields, but for the condition.
        self._made: Condition | None = None
        self._state = "PENDING"
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Any], Any]] = []
        self._driver = driver
        self._task: Task | None = None

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        made = self._made
        if made is None:
            with _light:
                made = self._made
                if made is None:
                    made = self._made = Condition()
        return made

    def attach(self, task: Task) -> None:
        """It is this task that the future stands for."""
        self._task = task

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """The task has ended (see `task.Sink`)."""
        self._task = None
        if kind == CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        ok, value = resolve(task, kind, data)
        with _light:
            if self._made is None:
                # Nobody waits and nobody has a callback: both would have made the condition.
                if ok:
                    self._result = value
                else:
                    self._exception = value
                self._state = _FINISHED
                return
        if ok:
            self.set_result(value)
        else:
            self.set_exception(value)

    def result(self, timeout: float | None = None) -> Any:
        """The value that the call returned; waits for it at most `timeout` seconds.

        Raises what the call raised, `CancelledError` if it was cancelled, `TimeoutError` if it is not done in time.
        """
        if self._state == _FINISHED and self._exception is None:
            return self._result
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits for it as `result` does."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self._state in _ENDED:
            return
        with self._driver.waiting("future"):
            wait(self._sleep, timeout)

    def _sleep(self, seconds: float | None) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._state in _ENDED, seconds)

    def cancel(self) -> bool:
        """Cancel the call if it has not been given to a worker; True if it will never run."""
        task = self._task
        if isinstance(task, Task):
            self._driver.cancel([task])
        return self.cancelled()

    def running(self) -> bool:
        """Has the call been given to a worker, and not ended?"""
        task = self._task
        return isinstance(task, Task) and task.state == ASSIGNED
