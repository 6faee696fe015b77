"""What a worker process of `multiprocessing.Pool` does first: who it is, and what its main module is.

Imports little: it is part of each worker's start.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from multiprocessing import process as _process
from typing import Any, NamedTuple

from . import main_module, payloads, worker

process: Any = _process

# What forked workers find in the memory that they have inherited: initializers and their arguments.
inherited: dict[int, tuple[Callable[..., object] | None, tuple[Any, ...]]] = {}


class Facts(NamedTuple):
    """What a worker has to know before it loads anything of the program's."""

    kind: str  # the first part of its name
    authkey: bytes
    plan: main_module.Plan | None  # None: it is forked, and has the program's main module


class Birth:
    """The first call in each worker.  `blob` is the pickled initializer with its arguments, `token` where they are."""

    def __init__(self, facts: Facts, name: str, blob: bytes | None, token: int | None) -> None:
        self._facts = facts
        self._blob = blob
        self._token = token
        self.__qualname__ = name  # for error messages

    def __call__(self) -> None:
        kind, authkey, plan = self._facts
        current = process.current_process()
        current._identity = (worker.number,)
        current.name = f"{kind}PoolWorker-{worker.number}"
        current.authkey = authkey
        process._children = set()  # a forked one has its parent's
        process._process_counter = itertools.count(1)
        if plan is not None:
            main_module.install(plan, {})
            sys.modules["__mp_main__"] = sys.modules["__main__"]
        payloads.results_policy = _dumps_result
        if self._token is not None:
            initializer, initargs = inherited[self._token]
        elif self._blob is not None:
            initializer, initargs = payloads.loads(self._blob)
        else:
            return
        if initializer is not None:
            initializer(*initargs)


def _dumps_result(value: Any) -> bytes:
    from .main_pickling import dumps_for_parent

    return dumps_for_parent(value)
