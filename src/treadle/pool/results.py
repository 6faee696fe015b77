"""From how a task ended to a value or an exception."""

from __future__ import annotations

import traceback
from typing import Any

from ..errors import ResultNotLoadable, adopt_stdlib_names
from .failures import describe_task, make, restore, unpack
from .payloads import describe, loads
from .task import RAISED, RAISED_PACKED, RETURNED, RETURNED_PACKED, UNLOADABLE, Task
from .waits import in_main_thread


def resolve(task: Task, kind: int, data: Any) -> tuple[bool, Any]:
    """(True, value) or (False, exception).  Every kind but CANCELLED.  Raises nothing but a Ctrl-C."""
    if kind == RETURNED_PACKED:
        try:
            return True, loads(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and in_main_thread():
                raise  # Ctrl-C, while the main thread loads a result that it has asked for: it is not the item's fault
            return False, _unloadable(task, error)
    if kind == RETURNED:
        return True, data
    if kind == RAISED_PACKED:
        return False, unpack(data, task)
    if kind == RAISED:
        return False, describe_task(data, task, "".join(traceback.format_exception(data)))
    if kind == UNLOADABLE:
        return False, _unloadable(task, data)
    return False, make(kind, data, task)


def _unloadable(task: Task, error: BaseException) -> BaseException:
    """Whatever the loading of somebody's class may raise, it is this item's error."""
    adopt_stdlib_names()
    name = getattr(task.call.fn, "__qualname__", None) or type(task.call.fn).__name__
    trouble = ResultNotLoadable(f"the result of {name} can't be loaded here: {describe(error)}")
    trouble.__cause__ = error
    return describe_task(trouble, task, "".join(traceback.format_exception(error)))


def worth_a_retry(task: Task, kind: int, data: Any) -> bool:
    """What the task's `retry_on` says of a failed attempt.  Raises what that raises."""
    retry_on = task.options.retry_on
    if kind == RAISED:
        error = data
    elif kind == RAISED_PACKED:
        error = restore(data)[0]
    else:
        error = make(kind, data, task)
    if retry_on is None:
        return True
    if isinstance(retry_on, (type, tuple)):
        return isinstance(error, retry_on)
    return bool(retry_on(error))
