"""What every process that treadle starts for this program does first, however it is started.

A step is a function by its name and an argument that JSON can write, so that it travels in a command line, in an
environment variable and in a pickle.  This module imports nothing of treadle: it is there before anything else.
"""

from __future__ import annotations

__all__ = ["add", "as_code", "as_text", "take"]

_steps: dict[str, str] = {}  # "module:function" -> its argument as JSON, in the order in which they are taken


def add(function: str, argument: object) -> None:
    """From now on new processes call that function ("module:name") with the argument; the last argument counts."""
    import json  # here and below: most programs have no steps, and shall not wait for it

    _steps[function] = json.dumps(argument)


def as_text() -> str:
    """All steps, for `take`."""
    if not _steps:
        return "{}"
    import json

    return json.dumps(_steps)


def as_code() -> str:
    """Python code that takes the steps, and binds no name; "" if there are none."""
    return f"__import__('treadle.first_steps', None, None, ['take']).take({as_text()!r}); " if _steps else ""


def take(text: str) -> None:
    """In a new process: do what its parent has said, and have its own children do it."""
    import importlib
    import json

    for function, argument in json.loads(text).items():
        _steps[function] = argument
        module, _, name = function.partition(":")
        getattr(importlib.import_module(module), name)(json.loads(argument))
