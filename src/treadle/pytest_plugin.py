"""A plug-in for pytest, without effect unless pytest is called with ``--treadle``.

With it, a test that times out shows who waited for whom (a time-out of pytest-timeout, or of ``--treadle-timeout
SECONDS``), and a test that leaves threads, processes or shared memory behind fails.

This module is imported by every pytest of an environment that has treadle: what it needs, it imports when it is asked.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from treadle.testing.leaks import Belongings

EARLY_SECONDS = 0.3  # the picture is taken so long before the time-out, at most: while all still wait

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("treadle")
    group.addoption(
        "--treadle",
        action="store_true",
        help="On a test's time-out print who waits for whom; fail a test that leaves threads, processes or shared "
        "memory behind.",
    )
    group.addoption(
        "--treadle-timeout",
        type=float,
        metavar="SECONDS",
        help="With --treadle: fail a test that takes longer. (Where pytest-timeout is used, its time-outs count too.)",
    )
    group.addoption(
        "--treadle-grace",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="With --treadle: how long what a test leaves behind may take to go by itself (default: 2).",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--treadle"):
        config.pluginmanager.register(Plugin(config), "treadle-plugin")


class TimedOut(Exception):
    """The test took longer than ``--treadle-timeout``."""


class Watch:
    """A thread that takes a picture shortly before a time-out.

    Before, because later the thread that times out does not wait any more; and a thread, because one that is in a
    signal handler is in no deadlock.
    """

    def __init__(self, seconds: float) -> None:
        self.text = ""
        self._timer = threading.Timer(max(seconds / 2, seconds - EARLY_SECONDS), self._look)
        self._timer.name = "treadle: watch over a test"
        self._timer.daemon = True
        self.said = threading.Event()
        self._timer.start()

    def _look(self) -> None:
        from treadle._native import _core
        from treadle.diagnose import causes, picture, report

        try:
            _core.thread_role("service")  # it wakes nobody whom the test waits for
            seen = picture.take()
            # Nor does a signal: the one that is handled is that of the time-out.
            self.text = report.render(seen, causes.causes(seen, signals=False))
        except Exception as error:  # a look must not spoil a test
            self.text = f"no picture could be taken: {type(error).__name__}: {error}"
        self.said.set()

    def stop(self) -> None:
        """It is over: no picture is needed any more."""
        self._timer.cancel()
        self._timer.join()


class Plugin:
    """What is done for each test."""

    def __init__(self, config: pytest.Config) -> None:
        self._timeout: float | None = config.getoption("--treadle-timeout")
        self._grace: float = config.getoption("--treadle-grace")
        self._watch: Watch | None = None
        self._seen = ""
        self._before: Belongings | None = None
        self._fixtures: Belongings | None = None

    # -- time-outs

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """pytest-timeout begins to watch this test."""
        self._stop()
        self._watch = Watch(settings.timeout)
        if settings.method == "thread":  # which ends the program, so nothing can be said later
            threading.Thread(target=self._say, args=(item.config, self._watch), daemon=True).start()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        self._stop()

    @staticmethod
    def _say(config: pytest.Config, watch: Watch) -> None:
        if watch.said.wait() and watch.text:
            config.get_terminal_writer().line(
                f"\ntreadle: who waits for whom, shortly before a time-out:\n{watch.text}"
            )

    def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
            self._seen = watch.text
            watch.text = ""
            watch.said.set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        timeout = self._timeout
        if timeout is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._stop()
        self._watch = Watch(timeout)

        def over(number: int, frame: object) -> None:
            raise TimedOut(f"Timeout: this test took longer than {timeout:g} s (--treadle-timeout)")

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            self._stop()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        if call.excinfo is not None and "Timeout" in str(call.excinfo.value):
            if self._watch is not None:
                self._seen = self._watch.text or self._seen
            if self._seen:
                report.sections.append(("treadle: who waits for whom", self._seen))
        self._seen = ""

    # -- what is left behind

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        from treadle.testing import leaks

        self._before = leaks.belongings()
        yield
        self._fixtures = leaks.belongings()

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        outcome: Any = yield
        from treadle.testing import leaks

        before, fixtures, self._before, self._fixtures = self._before, self._fixtures, None, None
        if before is None or fixtures is None or outcome.excinfo is not None:
            return
        # What a fixture's set-up has made, and is still there, may be meant for other tests too.
        left = leaks.left_behind(before.joined(fixtures), self._grace, ("processes", "threads", "shared_memory"))
        if left:
            with contextlib.suppress(AttributeError):
                outcome.force_exception(leaks.Leak(f"this test has left behind:\n{left}"))
