"""From how a task ended to a value or an exception."""

from __future__ import annotations

import traceback
from typing import Any

from ..errors import ResultNotLoadable
from .failures import describe_task, make, unpack
from .payloads import describe, loads
from .task import RAISED, RAISED_PACKED, RETURNED, RETURNED_PACKED, Task
from .waits import in_main_thread


def resolve(task: Task, kind: int, data: Any) -> tuple[bool, Any]:
    """(True, value) or (False, exception).  Every kind but CANCELLED.  Raises nothing but a Ctrl-C."""
    if kind == RETURNED_PACKED:
        try:
            return True, loads(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and in_main_thread():
                raise  # Ctrl-C, while the main thread loads a result that it has asked for: it is not the item's fault
            # Whatever the loading of somebody's class may raise, it is this item's error
            name = getattr(task.call.fn, "__qualname__", None) or type(task.call.fn).__name__
            trouble = ResultNotLoadable(f"the result of {name} can't be loaded here: {describe(error)}")
            trouble.__cause__ = error
            return False, describe_task(trouble, task, "".join(traceback.format_exception(error)))
    if kind == RETURNED:
        return True, data
    if kind == RAISED_PACKED:
        return False, unpack(data, task)
    if kind == RAISED:
        tb = data.__traceback__
        text = "".join(traceback.format_exception(type(data), data, tb.tb_next if tb is not None else None))
        return False, describe_task(data, task, text)
    return False, make(kind, data, task)
