"""The parent's end of a worker's lane."""

from __future__ import annotations

import contextlib
import os

from ..._native import _core


class Channel:
    """A lane, and the eventfd by which its worker says that there is something to do: results, or room for tasks."""

    def __init__(self, store: _core.Store) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self.lane = _core.Lane(store, self.fd)
        except BaseException:
            os.close(self.fd)
            raise
        self._store = store

    @property
    def remote_fds(self) -> tuple[int, int, int]:
        """The descriptors that the worker needs, in the order in which `worker.run` takes them."""
        return self.lane.descriptor, self.fd, self._store.descriptor

    def close_remote(self) -> None:
        """The worker has its descriptors: close what only it needs."""
        self.lane.sent()

    def hear(self) -> None:
        """The worker has signalled.  To be called before looking what it wants: what comes later signals again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        self.lane.flush()

    def close(self) -> None:
        """Give everything back.  Idempotent."""
        self.lane.close()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
