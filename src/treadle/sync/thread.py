"""Thread and Timer: the standard library's, with a result, an interrupt, and a join that can be diagnosed."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading as _threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from treadle._native import _core
from treadle._native._core import Event, Lock
from treadle.errors import Interrupted

__all__ = ["Thread", "Timer", "interrupt"]

_NATIVE_CONTEXT = sys.version_info >= (3, 14)  # threading.Thread itself takes context=


class _ThreadType(type):
    """Every thread of the standard library counts as an instance of `Thread` (not of its subclasses): the main thread,
    and those that other libraries start, are threads too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or (cls is Thread and isinstance(instance, _threading.Thread))


class Thread(_threading.Thread, metaclass=_ThreadType):
    """A thread of control, as `threading.Thread`, that also has a result.

    `context` is the `contextvars.Context` to run in, on every Python version; None does what this Python does.
    """

    # Invariant: _over is set after _value or _error has its last value, and after everything that the thread runs.
    # Invariant: _listens changes under _gate.  Once it is false again, no more interrupts come, so the standard
    # library's bookkeeping at the end of a thread isn't torn.

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        more: dict[str, Any] = {"context": context} if _NATIVE_CONTEXT else {}
        super().__init__(group, target, name, args, kwargs, daemon=daemon, **more)
        self._own_context = None if _NATIVE_CONTEXT else context
        self._over = Event()
        self._gate = Lock(name="Thread.interrupt")
        self._listens = False
        self._early: type[BaseException] | None = None  # an interrupt that came before run()
        self._ended = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._invoke_excepthook = _noting(self._invoke_excepthook)  # type: ignore[has-type]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        run = cls.__dict__.get("run")
        if callable(run):
            cls.run = _keeping(run)  # type: ignore[assignment, method-assign]

    def run(self) -> None:
        """Call the target; what it returns is the thread's result.  A subclass may do something else here."""
        target, args, kwargs = self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        # The thread object may live long: it must not keep the arguments alive.
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        if target is not None:
            self._value = target(*args, **kwargs)

    def _bootstrap(self) -> None:
        self._over._owner = _core.thread_token()
        _core.thread_name(self.name)
        span = _core.trace_begin(self._target or type(self))  # type: ignore[attr-defined]
        bootstrap = super()._bootstrap  # type: ignore[misc]
        try:
            if self._own_context is None:
                bootstrap()
            else:
                self._own_context.run(bootstrap)
        finally:
            self._own_context = None
            if span is not None:
                _core.trace_end(span)
            self._over.set()

    def _stop_listening(self) -> None:
        with self._gate:
            self._listens = False
            self._ended = True
        with contextlib.suppress(BaseException):  # an interrupt that came too late
            surface()

    @property
    def name(self) -> str:
        """The thread's name, which also shows in `treadle why` and in reports."""
        return str(_threading.Thread.name.fget(self))  # type: ignore[attr-defined]

    @name.setter
    def name(self, name: str) -> None:
        _threading.Thread.name.fset(self, name)  # type: ignore[attr-defined]
        if self.ident == _threading.get_ident():
            _core.thread_name(self.name)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread ends, for at most `timeout` seconds (None: forever).

        Raises DeadlockError if the thread waits, directly or through others, for the calling one.
        """
        if timeout is not None and timeout < 0:
            timeout = 0
        waits = self is not _threading.current_thread() and self.ident is not None and self.is_alive()
        if waits and not sys.is_finalizing():  # at exit a daemon thread may be frozen; the base class knows
            start = time.monotonic()
            if not self._over.wait(timeout):
                return
            if timeout is not None:
                timeout = max(0, timeout - (time.monotonic() - start))
        super().join(timeout)  # checks the arguments, and waits for the thread's last instructions

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end of the thread, and return what its target (or its `run`) returned.

        Raises what the thread raised; TimeoutError if it has not ended after `timeout` seconds (None: no limit);
        RuntimeError if it was not started, or if a thread waits for itself.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end of the thread, and return what it raised, or None.  Errors as for `result`."""
        self.join(timeout)
        if self.is_alive():
            raise TimeoutError(f"{self.name} has not ended within {timeout} s")
        return self._error

    def interrupt(self) -> None:
        """Raise `Interrupted` in the thread: at once if it is in a wait of treadle, else at its next instruction.

        A call into C that doesn't come back to Python can't be interrupted.  Nothing happens if the thread has ended.
        RuntimeError if it was not started.
        """
        interrupt(self)


def interrupt(thread: _threading.Thread, kind: type[BaseException] = Interrupted) -> bool:
    """Raise `kind` in any thread of this process; `Thread.interrupt` tells when it takes effect.

    False if the thread has ended; RuntimeError if it was not started.
    """
    if thread.ident is None:
        raise RuntimeError("cannot interrupt a thread that was not started")
    if not thread.is_alive():
        return False
    gate = getattr(thread, "_gate", None)
    if gate is None:  # not treadle's own: there is nothing to protect its end with
        return _core.interrupt(thread.ident, thread.native_id or 0, kind)
    with gate:
        assert isinstance(thread, Thread)
        if thread._listens:
            return _core.interrupt(thread.ident, thread.native_id or 0, kind)
        if not thread._ended:
            thread._early = kind
        return not thread._ended


def surface() -> None:
    """Let an exception that another thread has left for this one be raised here, if there is one."""
    while _core.interrupt_pending():
        pass


def _noting(hook: Callable[[Any], object]) -> Callable[[Any], None]:
    """Keep the exception that ends the thread; the standard library's hook then reports it."""

    def note(thread: Thread) -> None:
        error = sys.exc_info()[1]
        thread._stop_listening()
        thread._error = error
        if error is not None:
            error.__traceback__ = _without_thread(error.__traceback__, thread)
        if not isinstance(error, Interrupted):  # asked for, hence nothing to print
            hook(thread)

    return note


def _without_thread(traceback: TracebackType | None, thread: Thread) -> TracebackType | None:
    """The traceback from the user's own code on: the frames before it hold the thread, which holds the exception."""
    while traceback is not None and traceback.tb_next is not None:
        if traceback.tb_frame.f_locals.get("self") is not thread:
            break
        traceback = traceback.tb_next
    return traceback


def _keeping(run: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A subclass's `run`, whose value is kept as the thread's result."""

    @functools.wraps(run)
    def keep(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.ident != _threading.get_ident() or self._listens:  # called by hand, or by a subclass's run
            return run(self, *args, **kwargs)
        try:
            try:
                with self._gate:
                    self._listens = True
                    early = self._early
                if early is not None:
                    raise early
                value = run(self, *args, **kwargs)
                if value is not None:
                    self._value = value
            finally:
                self._stop_listening()
        except BaseException:
            self._stop_listening()  # if the interrupt came right before that
            raise

    return keep


class Timer(Thread):
    """A thread that calls ``function(*args, **kwargs)`` after `interval` seconds, unless `cancel()` comes first."""

    def __init__(
        self,
        interval: float,
        function: Callable[..., object],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.interval = interval
        self.function = function
        self.args = [] if args is None else args
        self.kwargs = {} if kwargs is None else kwargs
        self.finished = Event()

    def cancel(self) -> None:
        """Stop the timer, if it has not gone off."""
        self.finished.set()

    def run(self) -> None:
        self.finished.wait(self.interval)
        if not self.finished.is_set():
            self._value = self.function(*self.args, **self.kwargs)
        self.finished.set()


Thread.run = _keeping(Thread.run)  # type: ignore[assignment, method-assign]
Thread.__module__ = Timer.__module__ = "treadle.threading"
