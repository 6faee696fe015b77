"""`multiprocessing.managers`: the standard library's managers, whose servers start in our context."""

from __future__ import annotations

from multiprocessing import managers as _stdlib
from multiprocessing.managers import BaseProxy, RemoteError, Token
from typing import Any

from .contexts import default
from .faces import stand_in_for

__all__ = ["BaseManager", "BaseProxy", "RemoteError", "SharedMemoryManager", "SyncManager", "Token"]


class _InOurContext:
    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **more: Any,
    ) -> None:
        super().__init__(address, authkey, serializer, ctx or default.get_context(), **more)  # type: ignore[call-arg]


class BaseManager(_InOurContext, _stdlib.BaseManager):
    """The standard library's, with our processes."""


def _pool(*args: Any, **kwds: Any) -> Any:
    """What the server makes for `manager.Pool(...)`."""
    from .pool import Pool  # here, because few managers have one

    return Pool(*args, **kwds)


class SyncManager(_InOurContext, _stdlib.SyncManager):
    """The standard library's, with our processes, and our pool behind `Pool`: it has no semaphores, which the standard
    library's leaves behind if the server ends while one of its threads closes a pool."""


SyncManager.register("Pool", _pool, _stdlib.PoolProxy, create_method=False)  # type: ignore[attr-defined]


class SharedMemoryManager(_InOurContext, _stdlib.SharedMemoryManager):
    """The standard library's, with our processes."""


stand_in_for(__name__, _stdlib)
