"""Every test has a time-out that dumps all stacks, and leaves nothing behind."""

from __future__ import annotations

import faulthandler
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess

import pytest

from treadle.testing.leaks import no_leaks

# pytest-timeout interrupts a Python that still runs bytecode.  For one that does not, this is the net below: all stacks
# of all threads from C, then the end.
LAST_RESORT_SECONDS = 240.0

# Whoever starts the tests in the background (nohup, a shell's &) has some signals ignored, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is done to programs is done under `spawn` on one Python only: each of its processes starts an interpreter,
    and what is special in it has its tests in contract/."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if item.path.parent.name == "faults" and "spawn" in map(str, values):
            item.add_marker("once")


@pytest.fixture
def forked() -> Iterator[Callable[..., ForkProcess]]:
    """Starts a function in a forked process.  One that still runs at the end of the test is killed."""
    processes = []

    def start(function: Callable[..., object], *args: object) -> ForkProcess:
        process = multiprocessing.get_context("fork").Process(target=function, args=args)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
        process.close()


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Other programs' temporary files must not look like leaks of ours."""
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
    os.environ["TMPDIR"] = tempfile.tempdir
    yield
    tempfile.tempdir = before
    # pytest may remove it before multiprocessing looks for its own folder inside of it.
    for finalizer in list(multiprocessing.util._finalizer_registry.values()):
        if finalizer._callback is multiprocessing.util._remove_temp_dir:
            finalizer()


@pytest.fixture(autouse=True)
def _last_resort(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("timeout")
    seconds = max(LAST_RESORT_SECONDS, 2 * marker.args[0] if marker is not None and marker.args else 0)
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _leaves_nothing(
    _last_resort: None, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    # While this process is connected to Ray, that opens and closes connections as it likes.
    ray = "ray_cluster" in request.fixturenames
    with no_leaks(kinds=("processes", "threads", "temporary") if ray else None):
        yield
        # A record keeps the traceback of what it tells of, which keeps each frame below, which keeps what it worked on.
        caplog.get_records("call").clear()
