"""Process: the standard library's, with a result, signals, and an end when its parent's end comes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import context, process, util
from types import TracebackType
from typing import Any

from treadle._native import _core
from treadle.errors import (
    ProcessDied,
    ResultNotLoadable,
    ResultNotPicklable,
    TreadleError,
    describe_exit,
    shorten,
)

from ..pool import failures
from ..pool.main_pickling import dumps_for_parent
from ..pool.payloads import describe, loads
from . import lifeline
from .outcome import RAISED, RETURNED, Outcome

__all__ = ["ForkProcess", "ForkServerProcess", "Process", "SpawnProcess"]


class _Process(process.BaseProcess):
    """What the four classes have in common."""

    # Invariant: _outcome is set from start() to close(), and in the child.
    # Invariant: _settled is None until the outcome was read; then it is (exception or None, value), for good.

    _popen: Any
    _outcome: Outcome | None = None
    _settled: tuple[BaseException | None, Any] | None = None
    _value: Any = None  # in the child: what the target returned
    _by_main = False  # started by the main thread of its parent
    _stopped = False

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)

    def run(self) -> None:
        """Call the target; what it returns is the process's result.  A subclass may do something else here."""
        target = self._target  # type: ignore[attr-defined]
        if target:
            self._value = target(*self._args, **self._kwargs)  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the process.  Once only; a daemonic process may have children too."""
        self._check_closed()  # type: ignore[attr-defined]
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), (  # type: ignore[attr-defined]
            "can only start a process object created by current process"
        )
        module: Any = process
        module._cleanup()
        self._by_main = threading.current_thread() is threading.main_thread()
        self._outcome = Outcome()
        try:
            self._popen = self._Popen(self)  # type: ignore[attr-defined]
        except BaseException:
            self._outcome.close()
            self._outcome = None
            raise
        self._sentinel = self._popen.sentinel
        # The process object may live long: it must not keep the arguments alive.
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        module._children.add(self)

    # -- how it ended ------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end of the process, and return what its target (or its `run`) returned.

        Raises what the process raised, with its traceback as the cause; ProcessDied if it was killed or left by
        ``os._exit`` or ``sys.exit`` with a code other than 0; ResultNotPicklable or ResultNotLoadable if the value
        couldn't travel; TimeoutError if it has not ended after `timeout` seconds (None: no limit).
        """
        error, value = self._how_it_ended(timeout)
        if error is None:
            return value
        try:
            raise error
        finally:
            del self, error, value  # the error will hold this frame, and must not hold the process by it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end of the process, and return what `result` would raise, or None."""
        return self._how_it_ended(timeout)[0]

    def _how_it_ended(self, timeout: float | None) -> tuple[BaseException | None, Any]:
        self.join(timeout)
        code = self.exitcode
        if code is None:
            raise TimeoutError(f"{self.name} has not ended within {timeout} s")
        if self._settled is None:
            assert self._outcome is not None
            self._settled = self._settle(self._outcome.read(), code)
        return self._settled

    def _settle(self, wrote: tuple[int, bytes] | None, code: int) -> tuple[BaseException | None, Any]:
        who = f"process {self.name!r} (pid {self.pid})"
        if wrote is None:
            if code == 0:  # sys.exit() or os._exit(0)
                return None, None
            return ProcessDied(f"{who} {describe_exit(code)}", self.pid, code), None
        kind, data = wrote
        if kind == RAISED:
            error = failures.restore(data)[0]
            with contextlib.suppress(Exception):  # an exception that refuses attributes: it has to do without
                error.add_note(f"treadle: {who}")
            return error, None
        try:
            return None, loads(data)
        except Exception as error:
            trouble = ResultNotLoadable(f"what {who} returned can't be loaded here: {describe(error)}")
            trouble.__cause__ = error
            return trouble, None

    # -- signals -----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does: a KeyboardInterrupt in the process, unless it handles the signal itself."""
        self._signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM, and let a suspended process go on, so that it gets it."""
        self._signal(signal.SIGTERM)
        if self._stopped:
            self.resume()

    def kill(self) -> None:
        """Send SIGKILL, which nothing withstands."""
        self._signal(signal.SIGKILL)

    def suspend(self) -> None:
        """Stop the process (SIGSTOP) until `resume`.  What it holds, locks too, it goes on holding."""
        if self._popen is not None:  # else there is nobody to resume; see _signal
            self._stopped = True
            _resume_at_exit(self)
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self._stopped = False
        _suspended.discard(self)

    def _signal(self, number: int) -> None:
        self._check_closed()  # type: ignore[attr-defined]
        popen = self._popen
        if popen is None:
            raise ValueError("process not started")
        try:
            fd = os.pidfd_open(popen.pid)
        except OSError:  # it is gone; or there are no descriptors left
            popen._send_signal(number)
            return
        # The fork server reaps its children, so the number might be another process's by now; but not that of the
        # descriptor, if the process has not ended after it was opened.
        try:
            if popen.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)

    # -- the rest ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The process's name, which also shows in reports about locks and waits."""
        return str(process.BaseProcess.name.fget(self))  # type: ignore[attr-defined]

    @name.setter
    def name(self, name: str) -> None:
        process.BaseProcess.name.fset(self, name)  # type: ignore[attr-defined]
        if self is process.current_process() and threading.current_thread() is threading.main_thread():
            _core.thread_name(name)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process ends, for at most `timeout` seconds (None: forever).

        Raises DeadlockError if the process waits, directly or through others, for the calling thread.
        """
        popen = self._popen
        if popen is not None and self._parent_pid == os.getpid() and popen.poll() is None:  # type: ignore[attr-defined]
            if timeout is not None and timeout <= 0:
                return
            if not self._wait(popen, timeout):
                return
            timeout = None  # it has ended
        super().join(timeout)
        if self._outcome is not None and self._popen.returncode is not None:
            self._outcome.settle()

    def _wait(self, popen: Any, timeout: float | None) -> bool:
        """Has it ended in time?"""
        what = f"the end of process {self.name!r}, pid {popen.pid} (join)"
        if popen.method == "forkserver":  # which tells its end, and its exit code, by this descriptor
            return _core.wait_process(popen.sentinel, popen.pid, what, timeout)
        # The sentinel of others stays open while a descendant has a copy of it.
        try:
            fd = os.pidfd_open(popen.pid)
        except ProcessLookupError:  # another thread has joined it meanwhile
            return True
        try:
            return _core.wait_process(fd, popen.pid, what, timeout)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give back what the process object holds; ValueError while the process runs.  Its result is gone too."""
        super().close()
        if self._outcome is not None:
            self._outcome.close()
            self._outcome = None

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """In the child: all of its life."""
        lifeline.hold_forked(self._by_main)
        _forget_server()
        _core.thread_name(self.name)
        _core.trace_title(self.name)
        span = _core.trace_begin(self._target or type(self))  # type: ignore[attr-defined]
        if self._start_method is not None:  # type: ignore[attr-defined]
            from .contexts import force

            force(self._start_method)  # type: ignore[attr-defined]
        outcome = self._outcome
        if outcome is not None:
            run = self.run
            self.run = functools.partial(self._recorded, run, outcome)  # type: ignore[method-assign]
        try:
            return super()._bootstrap(parent_sentinel)  # type: ignore[misc,no-any-return]
        finally:
            if span is not None:
                _core.trace_end(span)

    def _recorded(self, run: Callable[[], object], outcome: Outcome) -> None:
        """Run, and write down how it ended."""
        try:
            value: Any = run()
        except SystemExit:  # the exit code tells
            raise
        except BaseException as error:
            error.__traceback__ = _users(error.__traceback__)
            _write(outcome, RAISED, failures.pack(error, dumps=dumps_for_parent))
            raise
        if value is None:
            value = self._value
        try:
            data = dumps_for_parent(value)
        except Exception as error:
            refused: TreadleError = ResultNotPicklable(
                f"{self.name} returned {shorten(value)}, which can't be pickled: {describe(error)}"
            )
            _write(outcome, RAISED, failures.pack(refused))
        else:
            _write(outcome, RETURNED, data)


_suspended: weakref.WeakSet[_Process] = weakref.WeakSet()
_minding = 0  # the pid of the process that has registered _resume_all


def _resume_at_exit(stopped: _Process) -> None:
    """Before the program waits for its children, at its end: nobody else could wake this one up."""
    global _minding
    if _minding != os.getpid():
        _minding = os.getpid()
        _suspended.clear()
        util.Finalize(None, _resume_all, exitpriority=0)
    _suspended.add(stopped)


def _resume_all() -> None:
    for found in list(_suspended):
        if found._stopped and not found._closed:  # type: ignore[attr-defined]
            found.resume()


def _users(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's own code on."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


def _forget_server() -> None:
    """In a forked child: the parent's fork server is no child of this process, which can't ask how it is."""
    module = sys.modules.get("multiprocessing.forkserver")
    server: Any = getattr(module, "_forkserver", None)
    if server is None or server._forkserver_pid is None:
        return
    server._forkserver_pid = server._forkserver_address = None
    fd, server._forkserver_alive_fd = server._forkserver_alive_fd, None
    os.close(fd)


def _write(outcome: Outcome, kind: int, data: bytes) -> None:
    try:
        outcome.write(kind, data)
    except (OSError, MemoryError) as error:
        full = MemoryError(f"there was no memory for a result of {len(data)} bytes: {error}")
        with contextlib.suppress(OSError, MemoryError):  # then the parent learns the exit code only
            outcome.write(RAISED, failures.pack(full))


class Process(_Process, context.Process):
    """A process of its own, started by the start method that the program has chosen (forkserver if it hasn't)."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .contexts import default

        return default.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        from .contexts import default

        default.get_context().Process._after_fork()


class ForkProcess(_Process, context.ForkProcess):
    """A process started by fork."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .launchers import ForkPopen

        return ForkPopen(process_obj)


class SpawnProcess(_Process, context.SpawnProcess):
    """A process started as a new interpreter."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .launchers import SpawnPopen

        return SpawnPopen(process_obj)


class ForkServerProcess(_Process, context.ForkServerProcess):
    """A process started by the fork server."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .launchers import ForkServerPopen

        return ForkServerPopen(process_obj)
