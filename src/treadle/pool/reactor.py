"""The one thread of a pool: it waits for file descriptors and for the clock, and calls back.

Everything here may be called from any thread; the callbacks run in the reactor's thread, one at a time.  `call_soon`
takes no lock, so that it may be called from a finalizer or a signal handler.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from .._native import _core
from .waits import DAEMON

READ = select.EPOLLIN


class _Bell:
    """What wakes the reactor: an eventfd that is closed when nobody holds this any more.

    Who rings it does so without a lock, and must not write into a file that was given its number meanwhile.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """While nobody else can ring it.  Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()


class Reactor:
    """An epoll loop with timers, in a daemon thread that starts with the first call that needs it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()  # guards: _thread, _handlers, _timers.  No callback runs under it.
        self._thread: threading.Thread | None = None
        self._epoll: select.epoll | None = None
        self._bell: _Bell | None = None
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._ended = False  # Invariant: once True, nobody else runs what is posted
        self._signalled = False  # a wake-up is on its way
        # Seconds to sleep before the next look at the descriptors, set by callbacks; it holds for one round.
        self.nap = 0.0

    @property
    def running(self) -> bool:
        """Is there a thread that will run what is posted?"""
        return self._thread is not None and not self._stopping

    @property
    def in_thread(self) -> bool:
        """Is this the reactor's own thread?"""
        return self._thread is threading.current_thread()

    def add(self, fd: int, handler: Callable[[int], None], events: int = READ) -> None:
        """Call `handler(events)` whenever `fd` is ready.  The caller removes it before closing it."""
        self.start()
        with self._lock:
            epoll = self._epoll
            if epoll is None:
                return
            self._handlers[fd] = handler
            epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a descriptor that was added."""
        with self._lock:
            if self._epoll is not None and fd in self._handlers:
                self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Wait for this one no more.  No error if it was not added."""
        with self._lock:
            if self._handlers.pop(fd, None) is not None and self._epoll is not None:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, not before so many seconds have passed."""
        due = time.monotonic() + seconds
        with self._lock:
            first = not self._timers or due < self._timers[0][0]
            heapq.heappush(self._timers, (due, next(self._order), callback))
        self.start()
        if first and not self.in_thread:
            self._wake()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back as soon as possible, in the order of the calls.  Takes no lock.

        What is posted after `stop` runs in the thread that posts it; before `start` it waits for that.
        """
        self._soon.append(callback)
        self._wake()
        if self._ended:
            self._run_soon()

    def call_last(self, callback: Callable[[], None]) -> None:
        """In the reactor's thread: call it before that waits again; elsewhere: now.

        For what wakes a thread, which would only wait for the interpreter's lock while this one still has it.
        """
        if self.in_thread:
            self._soon.append(callback)
        else:
            callback()

    def start(self) -> None:
        """Start the thread, if it does not run yet.  Raises OSError or RuntimeError where there can't be one."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is not None or self._stopping:
                return
            try:
                self._epoll = select.epoll()
                self._bell = _Bell()
                self._epoll.register(self._bell.fd, READ)
                thread = threading.Thread(target=self._run, name=self._name, daemon=DAEMON)
                thread.start()
            except BaseException:
                self._close()
                raise
            self._thread = thread

    def stop(self) -> None:
        """End the thread after the callback that it runs now.  Idempotent."""
        self._stopping = True
        self._wake()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, if there is one and it is not this one."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def after_fork(self) -> None:
        """In a forked child: the thread is not there; give the descriptors back."""
        self._lock = threading.Lock()
        self._stopping = True
        bell = self._bell
        self._close()
        if bell is not None:
            bell.close()  # at once: a thread of the parent's may have held it, and will never let go of it here

    def _wake(self) -> None:
        bell = self._bell  # held until it is rung: so it is not closed meanwhile
        if bell is None or self._signalled:
            return
        try:
            self._signalled = True
            os.eventfd_write(bell.fd, 1)
        except OSError:  # it has been rung so often that no more fits
            pass
        except BaseException:  # an interrupt before the write: let the next one write
            self._signalled = False
            raise

    def _run(self) -> None:
        _core.thread_name(self._name)
        _core.thread_role("service")
        with self._lock:  # `start` holds it until it is sure of this thread
            epoll, wake_fd = self._epoll, -1 if self._bell is None else self._bell.fd
        if epoll is None:  # Ctrl-C while it was waiting for this thread to come up
            return
        try:
            while not self._stopping:
                for fd, events in epoll.poll(self._pause()):
                    if fd == wake_fd:
                        with contextlib.suppress(BlockingIOError):
                            os.eventfd_read(wake_fd)
                        self._signalled = False  # before looking at what was posted: what comes later signals again
                        continue
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        self._call(handler, events)
                self._run_timers()
                self._run_soon()  # last: see `call_last`
                if self.nap:
                    nap, self.nap = self.nap, 0.0
                    time.sleep(nap)
        finally:
            with self._lock:
                self._close()
            self._ended = True
            self._run_soon()

    def _run_soon(self) -> None:
        while True:
            try:
                callback = self._soon.popleft()
            except IndexError:
                return
            self._call(callback)

    def _pause(self) -> float | None:
        with self._lock:
            if self._soon:
                return 0
            return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._timers or self._timers[0][0] > now:
                    return
                callback = heapq.heappop(self._timers)[2]
            self._call(callback)

    def _call(self, callback: Callable[..., None], *args: int) -> None:
        try:
            callback(*args)
        except BaseException:
            # A bug of ours, or of a user's callback: it must be seen, and must not stop everybody else's work.
            sys.excepthook(*sys.exc_info())

    def _close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        self._bell = None
        self._handlers.clear()
        self._timers.clear()
