"""Processes: the standard library's contract on both, and what ours adds."""

from __future__ import annotations

import gc
import multiprocessing as stdlib
import os
import signal
import subprocess
import sys
import threading
import time

import processes_work as work
import pytest

import treadle
from treadle import multiprocessing as ours

METHODS = ["forkserver", "spawn", "fork"]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(params=["treadle", "stdlib"])
def module(request):
    return ours if request.param == "treadle" else stdlib


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def context(module, method):
    return module.get_context(method)


@pytest.fixture
def mine(method):
    return ours.get_context(method)


def receive(conn, seconds=30):
    assert conn.poll(seconds), "nothing came"
    return conn.recv()


# -- the contract -----------------------------------------------------------------------------------------------------


def test_a_life(context) -> None:
    here, there = context.Pipe()
    process = context.Process(target=work.tell, args=(there, 1, [2]), name="Worker", daemon=True)
    assert process.pid is None and process.exitcode is None and not process.is_alive()
    assert "initial" in repr(process)
    process.start()
    name, daemon, pid, parent, args = receive(here)
    assert (name, daemon, pid, parent, args) == ("Worker", True, process.pid, os.getpid(), (1, [2]))
    process.join()
    assert process.exitcode == 0 and not process.is_alive()
    assert process not in stdlib.active_children()
    assert "stopped" in repr(process) and "exitcode=0" in repr(process)
    process.close()
    with pytest.raises(ValueError):
        process.join()


@pytest.mark.parametrize(
    ("target", "arg", "code"),
    [(work.add, 1, 0), (work.leave, 3, 3), (work.leave, None, 0), (work.hard_exit, 5, 5), (work.fail, "no", 1),
     (work.kill_self, signal.SIGKILL, -9)],
)  # fmt: skip
def test_exit_codes(context, target, arg, code, capfd) -> None:
    process = context.Process(target=target, args=(arg,))
    process.start()
    process.join()
    assert process.exitcode == code
    if code == -9:
        assert "exitcode=-SIGKILL" in repr(process)
    process.close()


def test_an_exception_is_printed(context, capfd) -> None:
    process = context.Process(target=work.fail, args=("what went wrong",), name="Sad")
    process.start()
    process.join()
    err = capfd.readouterr().err
    if context._name == "forkserver":
        return  # the server has the streams of the time when it was started
    assert "Process Sad:" in err and "ValueError: what went wrong" in err


@pytest.mark.parametrize(("how", "code"), [("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)])
def test_ends(context, how, code) -> None:
    here, there = context.Pipe()
    process = context.Process(target=work.ready_then_wait, args=(there,))
    process.start()
    receive(here)
    getattr(process, how)()
    process.join()
    assert process.exitcode == code


def test_join_with_a_timeout(context) -> None:
    here, there = context.Pipe()
    process = context.Process(target=work.ready_then_wait, args=(there,))
    process.start()
    receive(here)
    assert process in stdlib.active_children()
    begin = time.monotonic()
    process.join(0.1)
    assert 0.1 <= time.monotonic() - begin < 10 and process.exitcode is None and process.is_alive()
    process.kill()
    process.join()


def test_misuse(context) -> None:
    process = context.Process(target=work.add, args=(1,))
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    process.join()
    with pytest.raises(ValueError, match="cannot find context"):
        context.get_context("telepathy")
    with pytest.raises(ValueError):
        context.set_start_method("spawn")


# -- what ours adds ---------------------------------------------------------------------------------------------------


def run(context, target, *args, **kwargs):
    process = context.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process


def test_result(mine) -> None:
    process = run(mine, work.add, 20, b=22)
    assert process.result(30) == 42
    assert process.result() == 42 and process.exception() is None
    process.close()
    with pytest.raises(ValueError):
        process.result()


def test_a_raised_exception(mine, capfd) -> None:
    process = run(mine, work.fail, "what went wrong")
    with pytest.raises(ValueError, match="what went wrong") as caught:
        process.result(30)
    assert process.exception() is caught.value
    assert isinstance(caught.value.__cause__, treadle.RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__) and "multiprocessing" not in str(caught.value.__cause__)
    assert str(process.pid) in caught.value.__notes__[-1]


def test_an_exception_that_refuses_to_be_rebuilt(mine, capfd) -> None:
    error = run(mine, work.raise_two).exception(30)
    assert type(error) is work.Two and error.args == (1,) and error.b == 2


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize("target", [work.leave, work.hard_exit])
def test_it_left(mine, target, code) -> None:
    error = run(mine, target, code).exception(30)
    if code == 0:
        assert error is None
    else:
        assert isinstance(error, treadle.ProcessDied) and error.exitcode == 7 and error.signal is None


def test_it_was_killed(mine) -> None:
    process = run(mine, work.kill_self, signal.SIGUSR1)
    with pytest.raises(treadle.ProcessDied, match=r"killed by SIGUSR1") as caught:
        process.result(30)
    assert isinstance(caught.value, ChildProcessError)
    assert caught.value.pid == process.pid and caught.value.signal is signal.SIGUSR1
    assert caught.value.exitcode == -signal.SIGUSR1


def test_a_result_that_takes_too_long(mine) -> None:
    here, there = mine.Pipe()
    process = run(mine, work.ready_then_wait, there)
    receive(here)
    with pytest.raises(TimeoutError):
        process.result(0.05)
    process.kill()
    with pytest.raises(treadle.ProcessDied):
        process.result(30)


@pytest.mark.parametrize("size", [10, 50_000_000])
def test_a_large_result_does_not_keep_the_child(mine, size) -> None:
    process = run(mine, work.big, size)
    process.join(30)
    assert process.exitcode == 0, "it has left though nobody has read"
    assert len(process.result()) == size


def test_results_that_cannot_travel(mine) -> None:
    process = run(mine, work.a_generator)
    error = process.exception(30)
    assert isinstance(error, treadle.ResultNotPicklable) and process.exitcode == 0


def test_lambdas_and_closures(mine) -> None:
    offset = [1]
    assert run(mine, lambda x: x + offset[0], 41).result(30) == 42


def test_a_run_of_its_own(mine) -> None:
    class Child(mine.Process):
        def __init__(self, n):
            super().__init__()
            self.n = n

        def run(self):
            return self.n * 2

    process = Child(21)
    process.start()
    assert process.result(30) == 42


def test_interrupt(mine) -> None:
    here, there = mine.Pipe()
    process = run(mine, work.interrupted, there)
    assert receive(here) == "ready"
    process.interrupt()
    assert receive(here) == "interrupted"
    assert process.result(30) is None


def test_suspend_and_resume(mine) -> None:
    here, there = mine.Pipe()
    process = run(mine, work.count, there)
    assert receive(here) == 0
    process.suspend()

    def state():
        with open(f"/proc/{process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    while state() != "T":
        pass
    here.send(None)
    assert not here.poll(0.2), "it is stopped"
    process.resume()
    assert receive(here) == 1
    process.suspend()
    process.terminate()  # reaches it, suspended as it is
    process.join(30)
    assert process.exitcode == -signal.SIGTERM


def test_signals_to_one_that_has_ended(mine) -> None:
    process = mine.Process(target=work.add, args=(1,))
    names = ("interrupt", "terminate", "kill", "suspend", "resume")
    for name in names:
        with pytest.raises(ValueError, match="not started"):
            getattr(process, name)()
    process.start()
    process.join()
    for name in names:
        getattr(process, name)()
    assert process.result() == 1


def test_suspending_what_was_not_started_leaves_nothing_for_the_end() -> None:
    script = """if True:
        from treadle import multiprocessing
        process = multiprocessing.Process()
        try:
            process.suspend()
        except ValueError:
            print("refused")
    """
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert (ran.stdout, ran.stderr) == ("refused\n", "")


@pytest.mark.parametrize("inner", METHODS)
def test_children_of_daemons(mine, inner) -> None:
    here, there = mine.Pipe()
    process = mine.Process(target=work.start_child_and_report, args=(there, inner, True), daemon=True)
    process.start()
    assert receive(here)[4] == ("grandchild",)
    assert process.result(30) is None


def wait_for_parent(lock, conn):
    conn.send("ready")
    with lock:
        pass


def test_joining_a_process_that_waits_for_this_one(mine, capfd) -> None:
    """A cycle of a lock and a join: one of the two gives up, and the story names both."""
    here, there = mine.Pipe()
    lock = ours.Lock(name="warp")
    process = mine.Process(target=wait_for_parent, args=(lock, there), name="Weaver")
    error: BaseException | None = None
    try:
        with lock:
            process.start()
            receive(here)
            process.join()
    except treadle.DeadlockError as caught:
        error = caught
    error = error or process.exception(30)
    assert isinstance(error, treadle.DeadlockError)
    assert "Lock 'warp' (made at" in str(error) and "test_processes.py" in str(error)
    assert "'Weaver'" in str(error) and f"pid {process.pid} (join)" in str(error)
    process.join(30)
    assert process.exitcode is not None


def test_threads_may_join_the_same_process(mine) -> None:
    here, there = mine.Pipe()
    process = mine.Process(target=work.ready_then_wait, args=(there,))
    process.start()
    receive(here)
    threads = [threading.Thread(target=process.join) for _ in range(4)]
    for thread in threads:
        thread.start()
    process.kill()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert process.exitcode == -signal.SIGKILL


def test_the_environment_is_the_parents(mine, monkeypatch) -> None:
    run(mine, work.add, 1).result(30)  # the fork server runs
    monkeypatch.setenv("TREADLE_TEST_VARIABLE", "new")
    assert run(mine, work.environment, "TREADLE_TEST_VARIABLE").result(30) == "new"


def test_one_session(mine) -> None:
    from treadle._native import _core

    assert run(mine, board).result(30) == _core.board_identity()


def board():
    from treadle._native import _core

    return _core.board_identity()


def test_names_on_the_board(mine) -> None:
    from treadle._native import waits

    here, there = mine.Pipe()
    process = mine.Process(target=work.ready_then_wait, args=(there,), name="Inspected")
    process.start()
    receive(here)
    assert "Inspected" in {each.name for each in waits.threads() if each.pid == process.pid}
    process.kill()
    process.join()


def test_the_default_start_method() -> None:
    assert ours.get_all_start_methods()[0] == "forkserver"
    assert set(ours.get_all_start_methods()) == {"forkserver", "spawn", "fork"}
    before, theirs = ours.get_start_method(allow_none=True), stdlib.get_start_method(allow_none=True)
    try:
        ours.set_start_method(None, force=True)
        assert ours.get_start_method() == "forkserver"
        with pytest.raises(RuntimeError):
            ours.set_start_method("spawn")
        ours.set_start_method("spawn", force=True)
        assert ours.get_start_method() == "spawn"
        assert type(ours.get_context()) is type(ours.get_context("spawn"))
        process = ours.Process(target=start_methods)
        process.start()
        assert process.result(30) == ("spawn", theirs)
        assert stdlib.get_start_method(allow_none=True) == theirs, "the standard library's own choice is left alone"
    finally:
        ours.set_start_method(before, force=True)


def start_methods():
    return ours.get_start_method(), stdlib.get_start_method(allow_none=True)


def test_instances_of_the_standard_librarys() -> None:
    assert issubclass(ours.Process, stdlib.Process)
    for method in METHODS:
        assert isinstance(ours.get_context(method), type(stdlib.get_context(method)))
        assert issubclass(ours.get_context(method).Process, stdlib.get_context(method).Process)


def test_the_standard_librarys_pool(mine) -> None:
    with mine.Pool(2) as pool:
        assert pool.map(work.add, range(10)) == list(range(10))
        pool.close()
        pool.join()


def test_forkserver_preload() -> None:
    with pytest.raises(ValueError, match="on_error"):
        ours.set_forkserver_preload([], on_error="maybe")
    with pytest.raises(TypeError):
        ours.set_forkserver_preload([1])


def cycles(context, n) -> None:
    for i in range(n):
        process = context.Process(target=work.add, args=(i,))
        process.start()
        process.join()
        assert process.exitcode == 0


def test_nothing_is_left(mine) -> None:
    """Processes that are joined and dropped leave no descriptor; conftest's fixture looks at the rest."""
    cycles(mine, 3)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    cycles(mine, 15)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.heavy
@pytest.mark.by_hand
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_ten_thousand_lives(method) -> None:
    context = ours.get_context(method)
    cycles(context, 10)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    cycles(context, 10_000)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_was_joined_is_ready(context) -> None:
    """At once: the fork server closes its end of the sentinel a moment after it has told the exit code."""
    for _ in range(10):
        process = context.Process(target=work.add, args=(1,))
        process.start()
        process.join()
        assert treadle.wait(process, timeout=0) == [process]
        process.close()
