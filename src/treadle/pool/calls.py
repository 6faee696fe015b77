"""Calls as bytes: what every engine sends whose workers don't share the program's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._native import _core
from . import contexts
from .functions import FunctionTable
from .payloads import encode_arguments
from .task import Call


class CallTable:
    """Pickles calls, and remembers what several of them have in common.  Thread-safe."""

    def __init__(self) -> None:
        self.functions = FunctionTable()
        self.variables = contexts.VariableTable()

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have been in it."""
        self.functions.after_fork()

    def encode(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        memo: dict[str, Any] | None,
        store: _core.Store | None = None,
    ) -> Call:
        """A call that can travel, with the context variables of now, or those of `memo`, a map's.

        Large arguments go to `store`, if there is one.  Raises `TaskNotPicklable`.
        """
        function = memo.get("function") if memo is not None else None
        if function is None:
            function = self.functions.encode(fn)
            if memo is not None:
                memo["function"] = function
        payload = encode_arguments(args, kwargs, store)
        context = contexts.current() if memo is None else memo.get("context")
        if context is None:
            return Call(fn, args, kwargs, function, payload)
        return Call(fn, args, kwargs, function, payload, context, self.variables.encode(context))
