"""The plug-in for pytest: with ``--treadle`` time-outs show the wait graph and leaks fail; without, nothing is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import treadle

pytestmark = pytest.mark.once  # it looks from outside, at what the core says

DEADLOCK = """
    import pytest, warnings
    from treadle import threading
    from treadle.errors import DeadlockWarning

    def test_two_locks(recwarn):
        one, two = threading.Lock(name="one"), threading.Lock(name="two")
        both = threading.Barrier(2)

        def take(first, second):
            warnings.simplefilter("ignore", DeadlockWarning)
            first.acquire()
            both.wait()
            second.acquire()

        other = threading.Thread(target=take, args=(two, one), name="other", daemon=True)
        other.start()
        take(one, two)
"""

FORGOTTEN = """
    from treadle import queue, threading

    def test_consumer():
        hungry = threading.Thread(target=queue.Queue().get, name="hungry", daemon=True)
        hungry.start()
        hungry.join()
"""

SLOW_TO_END = """
    import threading

    def test_thread():  # it ends later than the default of two seconds
        threading.Timer(3, lambda: None).start()
"""

LEAKS = """
    import os, subprocess, sys, threading
    import pytest

    done = threading.Event()

    def test_thread():
        threading.Thread(target=done.wait, name="left alone", daemon=True).start()

    def test_process():
        global child
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def test_clean():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    def test_file(request):
        open("/dev/shm/{name}", "w").close()

    @pytest.fixture(scope="module")
    def server():
        thread = threading.Thread(target=done.wait, name="server")
        thread.start()
        yield thread
        done.set()
        thread.join()
        child.communicate()
        os.remove("/dev/shm/{name}")

    def test_server(server):
        pass

    def test_server_again(server):
        pass
"""


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest, on its own, on a file with that text."""
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    (folder / "test_it.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    environment = {key: value for key, value in os.environ.items() if key not in ("TREADLE_BOARD", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, timeout=60, env=environment, cwd=folder, check=False
    )


@pytest.mark.parametrize(
    "how",
    [
        ["--treadle-timeout=2"],
        pytest.param(["--timeout=5"], marks=pytest.mark.heavy),
        pytest.param(["--timeout=5", "--timeout-method=thread"], marks=pytest.mark.heavy),
    ],
)
def test_a_time_out_shows_who_waits_for_whom(tmp_path: Path, how: list[str]) -> None:
    pytest.importorskip("pytest_timeout")
    ran = run(tmp_path, DEADLOCK, "--treadle", *how)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "treadle: who waits for whom" in ran.stdout
    assert "deadlock: 2 threads wait for each other: " in ran.stdout
    assert "waits for  Lock 'one'" in ran.stdout
    assert "Timeout" in ran.stdout + ran.stderr


def test_a_time_out_names_a_forgotten_consumer(tmp_path: Path) -> None:
    """The thread that looks, and the signal that ends the test, wake nobody."""
    ran = run(tmp_path, FORGOTTEN, "--treadle", "--treadle-timeout=2")
    assert "forgotten consumer: thread 'hungry' of process " in ran.stdout, ran.stdout + ran.stderr
    assert "waits for the end of thread 'hungry' (join)" in ran.stdout


def test_what_is_left_behind_fails(tmp_path: Path) -> None:
    ran = run(tmp_path, LEAKS.replace("{name}", tmp_path.name), "--treadle", "--treadle-grace=0.3")
    assert ran.returncode == 1
    assert "6 passed, 3 errors" in ran.stdout
    for name, what in (("thread", "left alone"), ("process", "input()"), ("file", f"/dev/shm/{tmp_path.name}")):
        part = ran.stdout.partition(f"ERROR at teardown of test_{name} ")[2].partition("ERROR at teardown")[0]
        assert "this test has left behind" in part
        assert what in part


def test_what_ends_within_the_grace_is_not_left_behind(tmp_path: Path) -> None:
    ran = run(tmp_path, SLOW_TO_END, "--treadle", "--treadle-grace=30")
    assert ran.returncode == 0, ran.stdout


def test_without_the_option_nothing_happens(tmp_path: Path) -> None:
    ran = run(tmp_path, LEAKS.replace("{name}", tmp_path.name))
    assert ran.returncode == 0
    assert "6 passed" in ran.stdout


def test_the_module_costs_nothing_until_it_is_asked() -> None:
    """Every pytest imports it."""
    code = "import pytest, sys; import treadle.pytest_plugin; print(*sorted(m for m in sys.modules if 'treadle' in m))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["treadle", "treadle.pytest_plugin"]


def test_pytest_does_not_warn_that_it_is_imported_already() -> None:
    """Under `treadle run -m pytest` it is; pytest says so of a plug-in's package, unless its docstring forbids that."""
    from _pytest.assertion.rewrite import AssertionRewriter

    assert AssertionRewriter.is_rewrite_disabled(treadle.__doc__ or "")
