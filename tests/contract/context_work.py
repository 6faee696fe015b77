"""Functions and variables for the tests of contexts, importable by workers."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

request: ContextVar[Any] = ContextVar("another_name", default="default")
plain: ContextVar[Any] = ContextVar("plain")


class Holder:
    """A variable that is no global itself."""

    def __init__(self) -> None:
        self.inner: ContextVar[Any] = ContextVar("inner", default=None)


holder = Holder()


def seen(*ignored: Any) -> tuple[Any, Any]:
    return request.get(), plain.get(None)


def seen_inner() -> Any:
    return holder.inner.get()


def put(value: Any) -> Any:
    before = request.get()
    request.set(value)
    return before


def add_and_see(value: Any) -> Any:
    request.get().append(value)
    return request.get()


def fail_in_context() -> None:
    request.set("dirty")
    raise ValueError(request.get())
