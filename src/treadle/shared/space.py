"""A space: a store with its objects, as this process sees it; there is one for each store and process."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from treadle.shared import memory
from treadle.shared.forks import install
from treadle.shared.lifetimes import Hold, Lifetimes, contained
from treadle.shared.memory import Handle
from treadle.shared.store import Store
from treadle.shared.values import context, load, nested

__all__ = ["Space"]


class Space:
    """Made by `Space.new`, `Space.file` or, where a proxy arrives, by `Space.of`."""

    def __init__(self, key: str, store: Store) -> None:
        self.key = key
        self.store = store
        self.life = Lifetimes(store)
        self.kept: dict[int, Any] = {}  # what this process has put into values, and must not lose (see `values.py`)

    @classmethod
    def new(cls) -> Space:
        """In memory."""
        store = Store()
        with _guard:
            space = _spaces[store.name] = cls(store.name, store)
        return space

    @classmethod
    def file(cls, path: str, sync: bool | None = None) -> Space:
        """In a file; the same one for the same file.  `sync` None: as it already is, else False."""
        path = os.path.realpath(path)
        with _guard:
            space = _spaces.get(path)
            if space is None or space.store.closed:
                space = _spaces[path] = cls(path, Store(path, sync=bool(sync)))
            return space

    @classmethod
    def of(cls, handle: Handle | str) -> Space:
        """The one that another process has told us of."""
        if isinstance(handle, str):
            return cls.file(handle)
        with _guard:
            space = _spaces.get(handle.name)
            if space is None or space.store.closed:
                store = Store(fd=memory.find(handle), name=handle.name, lock=handle.lock)
                space = _spaces[handle.name] = cls(handle.name, store)
            return space

    def handle(self) -> Handle | str:
        """For `of`."""
        store = self.store
        if store.path is not None:
            return store.path
        assert store.shared_lock is not None
        return memory.handle(store.fd, store.name, store.shared_lock)

    def close(self) -> None:
        """Let go of everything in this process."""
        if not self.store.closed:
            with contextlib.suppress(MemoryError):
                self.store.write(self.life.leave)
            self.store.close()

    # -- values -----------------------------------------------------------------------------------------------------

    def value(self, raw: bytes, fetch: Callable[[Any], Any], *args: Any) -> Any:
        """Load a value that was just read; if it contains proxies, it is read again by `fetch(txn)` to hold them."""
        if not nested(raw):
            return load(raw)
        return self.values(fetch, *args)[0]

    def values(self, fetch: Callable[..., list[bytes]], *args: Any) -> list[Any]:
        """Load all the values that `fetch(txn, *args)` reads, as they are at one moment."""
        raws = self.store.read(fetch, *args)
        if not any(map(nested, raws)):
            return [load(raw) for raw in raws]
        raws, holds = self.store.write(self._holding, fetch, *args)
        return self.loaded(raws, holds)

    def _holding(self, txn: Any, fetch: Callable[..., list[bytes]], *args: Any) -> tuple[list[bytes], list[Hold]]:
        raws = fetch(txn, *args)
        return raws, self.holding(txn, raws)

    def holding(self, txn: Any, raws: list[bytes]) -> list[Hold]:
        """Hold everything that these values contain, until they are loaded."""
        return [self.life.hold(txn, number) for raw in raws if nested(raw) for number in contained(raw)]

    def loaded(self, raws: list[bytes], holds: list[Hold]) -> list[Any]:
        """The values, whose contents are held (by `holds`, which is not used here but must live)."""
        before = context.space, context.found
        context.space, context.found = self, None
        try:
            return [load(raw) for raw in raws]
        finally:
            context.space, context.found = before


_guard = threading.RLock()
_spaces: weakref.WeakValueDictionary[str, Space] = weakref.WeakValueDictionary()


def _living() -> list[Space]:
    return list(_spaces.values())


install(_living)
