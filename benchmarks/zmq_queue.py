"""pyzmq's sockets with the methods of a queue."""

from __future__ import annotations

import os
import tempfile
from multiprocessing.util import Finalize
from typing import Any


class ZmqQueue:
    """One PUSH and one PULL socket over a Unix socket, pickles within; each opened by the process that first uses it.

    For one producer and one consumer that live in two processes, and stay: a process that is forked opens its own, and
    another consumer at the same address races with what is left of the one before it.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="treadle-bench-")
        self._address = f"ipc://{folder}/socket"
        self._sockets: dict[tuple[int, str], Any] = {}

    def _socket(self, kind: str) -> Any:
        found = self._sockets.get((os.getpid(), kind))
        if found is None:
            import zmq

            context = zmq.Context()
            found = context.socket(getattr(zmq, kind))
            found.setsockopt(zmq.RECONNECT_IVL, 1)  # milliseconds: the consumer may come later
            # multiprocessing's children end without atexit; what is unsent then would be lost.
            Finalize(None, context.destroy, kwargs={"linger": 10_000 if kind == "PUSH" else 0}, exitpriority=10)
            if kind == "PULL":
                found.bind(self._address)
            else:
                found.connect(self._address)
            self._sockets[os.getpid(), kind] = found
        return found

    def put(self, item: Any) -> None:
        """Pickle it and hand it to the library's thread."""
        self._socket("PUSH").send_pyobj(item, protocol=5)

    def get(self) -> Any:
        """The next one."""
        return self._socket("PULL").recv_pyobj()
