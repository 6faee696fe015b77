"""What the thread of a worker calls inside of its interpreter (`interpreters.py`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from ...errors import ModuleRefused, ResultNotPicklable, TaskNotLoadable, shorten
from .. import failures
from ..contexts import Runner
from ..payloads import decode_arguments, describe, dumps, loads

# One interpreter, one thread: nobody else touches these.
_functions: dict[int, Any] = {}  # pickled, or loaded
_runner = Runner()


def begin() -> None:
    """Nothing: to be called is to have been imported."""


def learn(*parts: Any) -> None:
    """Numbers and pickled functions, in turn."""
    _functions.update(zip(parts[::2], parts[1::2], strict=True))


def initialize(function: bytes, arguments: bytes) -> bytes | None:
    """Call the user's initializer; what it raised, as bytes."""
    global _runner
    try:
        try:
            fn = loads(function)
            args, _ = decode_arguments(arguments)
        except Exception as error:
            raise TaskNotLoadable(f"the initializer can't be loaded: {describe(error)}") from error
        fn(*args)
    except BaseException as error:
        return failures.pack(_plainer(error), skip=1)
    _runner = Runner()  # what the initializer has set, every task finds
    return None


def run(function: int, variables: int, payload: bytes) -> tuple[bool | None, bytes]:
    """Call a function: (True, its value), (False, what it raised), or (None, its SystemExit), all as bytes."""
    try:
        fn = _function(function)
        try:
            args, kwargs = decode_arguments(payload)
        except Exception as error:
            raise TaskNotLoadable(f"the arguments can't be loaded in the worker: {describe(error)}") from error
        context = _runner.enter(_function(variables)() if variables else None)
        try:
            value = context.run(fn, *args, **kwargs)
        finally:
            _runner.leave(context)
        try:
            return True, dumps(value)
        except Exception as error:
            name = failures.title(fn)
            raise ResultNotPicklable(
                f"{name} returned {shorten(value)}, which can't be pickled: {describe(error)}"
            ) from error
    except SystemExit as error:
        return None, failures.pack(error, skip=1)
    except BaseException as error:
        return False, failures.pack(_plainer(error), skip=1)


def _plainer(error: BaseException) -> BaseException:
    """Does it come from a module that refuses subinterpreters?  Some of these say so at the end of long advice."""
    at: BaseException | None = error
    for _ in range(20):  # a chain may be a ring
        if at is None:
            break
        refused = re.search(r"module (\S+) does not support loading in subinterpreters", str(at))
        if isinstance(at, ImportError) and refused is not None:
            words = f"module {refused[1]!r} refuses to be loaded in a subinterpreter: use processes or threads"
            plain = ModuleRefused(words, name=refused[1])
            plain.__cause__, plain.__traceback__ = error, error.__traceback__
            return plain
        at = at.__cause__ or at.__context__
    return error


def _function(number: int) -> Callable[..., Any]:
    fn: Any = _functions[number]
    if not callable(fn):
        try:
            fn = _functions[number] = loads(fn)
        except Exception as error:
            raise TaskNotLoadable(f"the function can't be loaded in the worker: {describe(error)}") from error
    loaded: Callable[..., Any] = fn
    return loaded


def end() -> None:
    """The interpreter is about to be closed, which waits for the threads that were started in it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
