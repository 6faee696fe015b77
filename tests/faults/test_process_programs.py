"""Processes whose parent is killed, and programs whose main module can't be run again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from scripts import alive, program, run, wait_for

METHODS = ("forkserver", "spawn", "fork")

# What a child does when its parent is killed.
BUSY = {
    "sleeps": "time.sleep(60)",
    "computes": "while True: pass",
    "holds-the-interpreter": "ctypes.PyDLL(None).sleep(60)",  # in C, without letting go of it
    "blocks-signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)",
    "ignores-signals": "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 15)]; time.sleep(60)",
    "is-suspended": "os.kill(os.getpid(), signal.SIGSTOP)",
    "waits-for-a-lock": "lock.acquire()",
}

FAMILY = """
    import ctypes, os, signal, sys, time
    from treadle import multiprocessing

    def busy(generation, conn, lock):
        if generation > 1:
            child = context.Process(target=busy, args=(generation - 1, conn, lock), daemon={daemon})
            child.start()
        conn.send(os.getpid())
        {busy}

    context = multiprocessing.get_context({method!r})
    if __name__ == "__main__":
        here, there = context.Pipe()
        lock = context.Lock()
        lock.acquire()
        for _ in range(2):
            context.Process(target=busy, args=({generations}, there, lock), daemon={daemon}).start()
        print("children", *[here.recv() for _ in range(2 * {generations})], flush=True)
        {then}
"""


def family(tmp_path: Path, method: str, busy: str, generations: int = 1, daemon: bool = False, then: str = ""):
    code = FAMILY.format(
        method=method, busy=busy, generations=generations, daemon=daemon, then=then or "time.sleep(60)"
    )
    return program(code, tmp_path)


def children_of(started) -> list[int]:
    wait_for(lambda: "children" in started.out and started.out.endswith("\n"), 30, started.err)
    pids = [int(pid) for pid in started.out.split("children")[1].split()]
    assert pids and all(alive(pid) for pid in pids)
    return pids


@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY)
@pytest.mark.parametrize("method", METHODS)
def test_the_parent_is_killed(method: str, busy: str, tmp_path: Path) -> None:
    with family(tmp_path, method, busy) as started:
        children_of(started)
        os.kill(started.pid, signal.SIGKILL)
        started.assert_gone()


@pytest.mark.parametrize("busy", ["sleeps", "computes", "is-suspended"])
@pytest.mark.parametrize("method", METHODS)
def test_grandchildren(method: str, busy: str, tmp_path: Path) -> None:
    with family(tmp_path, method, BUSY[busy], generations=3) as started:
        pids = children_of(started)
        assert len(set(pids)) == 6
        os.kill(started.pid, signal.SIGKILL)
        # One generation ends after the other, each when it gets a CPU: where all six compute, that is late.
        started.assert_gone(8.0 if busy == "computes" else 2.0)


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_other_ways_to_kill(number: int, daemon: bool, tmp_path: Path) -> None:
    with family(tmp_path, "forkserver", BUSY["ignores-signals"], daemon=daemon) as started:
        children_of(started)
        os.kill(started.pid, number)
        started.assert_gone()


@pytest.mark.parametrize("method", METHODS)
def test_os_exit(method: str, tmp_path: Path) -> None:
    with family(tmp_path, method, BUSY["sleeps"], then="os._exit(3)") as started:
        assert started.wait() == 3
        started.assert_gone()


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_child_takes_its_own_children_along(method: str, tmp_path: Path) -> None:
    """The program goes on; what is below the killed child does not."""
    then = (
        "victim = multiprocessing.active_children()[0]; victim.kill(); victim.join(); "
        "print('killed', flush=True); time.sleep(60)"
    )
    with family(tmp_path, method, BUSY["sleeps"], generations=2, then=then) as started:
        started.said("killed")
        pids = [int(pid) for pid in started.out.split("children")[1].split("killed")[0].split()]
        wait_for(lambda: sum(map(alive, pids)) == 2, 2)
        os.kill(started.pid, signal.SIGKILL)
        started.assert_gone()


def test_started_by_a_thread(tmp_path: Path) -> None:
    """The child outlives the thread that started it, and not the program."""
    code = """
        import threading, time, os
        from treadle import multiprocessing

        def child(conn):
            conn.send(os.getpid())
            conn.recv()
            conn.send("still here")
            time.sleep(60)

        if __name__ == "__main__":
            conns = []
            def start(method):
                here, there = multiprocessing.Pipe()
                multiprocessing.get_context(method).Process(target=child, args=(there,)).start()
                conns.append(here)
            for method in ("forkserver", "spawn", "fork"):
                thread = threading.Thread(target=start, args=(method,))
                thread.start()
                thread.join()
            pids = [conn.recv() for conn in conns]
            for conn in conns:
                conn.send(None)
            assert [conn.recv() for conn in conns] == ["still here"] * 3
            print("children", *pids, flush=True)
            time.sleep(60)
    """
    with program(code, tmp_path) as started:
        assert len(children_of(started)) == 3
        os.kill(started.pid, signal.SIGKILL)
        started.assert_gone()


def test_a_forked_bystander_does_not_keep_them(tmp_path: Path) -> None:
    """A process forked by hand has copies of all descriptors, and goes on when the program is killed."""
    code = """
        import os, time
        from treadle import multiprocessing

        def child(conn):
            conn.send(os.getpid())
            time.sleep(60)

        here, there = multiprocessing.Pipe()
        multiprocessing.get_context("spawn").Process(target=child, args=(there,)).start()
        pid = here.recv()
        bystander = os.fork()
        if bystander == 0:
            time.sleep(60)
            os._exit(0)
        print("children", pid, bystander, flush=True)
        time.sleep(60)
    """
    with program(code, tmp_path) as started:
        child, bystander = children_of(started)
        os.kill(started.pid, signal.SIGKILL)
        wait_for(lambda: not alive(child), 2)
        assert alive(bystander)
        os.kill(bystander, signal.SIGKILL)
        started.assert_gone()


def test_a_killed_fork_server_is_replaced(tmp_path: Path) -> None:
    code = """
        import os, signal
        from multiprocessing.forkserver import _forkserver
        from treadle import multiprocessing

        for _ in range(3):
            process = multiprocessing.Process(target=print, args=("hello",))
            process.start()
            process.join()
            os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
            os.waitid(os.P_PID, _forkserver._forkserver_pid, os.WEXITED | os.WNOWAIT)
    """
    code_, out, err = run(code, tmp_path)
    assert (code_, out, err) == (0, "hello\n" * 3, "")


PRELOAD = """
    import sys, warnings
    from treadle import multiprocessing
    multiprocessing.set_forkserver_preload([{modules}], on_error={on_error!r})
    def loaded(name): return name in sys.modules
    process = multiprocessing.Process(target=loaded, args=("colorsys",))
    try:
        process.start()
        print(process.result(30))
    except (EOFError, ConnectionError):
        print("no server")
"""


@pytest.mark.parametrize(
    ("modules", "on_error", "out", "err"),
    [
        ("", "ignore", "False", ""),
        ("'colorsys'", "ignore", "True", ""),
        ("'no_such_module', 'colorsys'", "ignore", "True", ""),
        ("'no_such_module', 'colorsys'", "warn", "True", "Failed to preload module 'no_such_module'"),
        ("'colorsys'", "fail", "True", ""),
        ("'no_such_module', 'colorsys'", "fail", "no server", "No module named 'no_such_module'"),
    ],
)
def test_preloaded_modules(modules: str, on_error: str, out: str, err: str, tmp_path: Path) -> None:
    code = PRELOAD.format(modules=modules, on_error=on_error)
    with program(code, tmp_path, python=("-W", "always::ImportWarning")) as started:
        assert started.wait() == 0
        assert started.out.strip() == out
        assert err in started.err and bool(err) == bool(started.err)
        started.assert_gone()


# -- normal ends ------------------------------------------------------------------------------------------------------

NORMAL = """
    import os, time
    from treadle import multiprocessing

    def child(text):
        time.sleep(0.3)
        os.write(1, text.encode() + b"\\n")  # in one piece: two of them write at once

    if __name__ == "__main__":
        context = multiprocessing.get_context({method!r})
        context.Process(target=child, args=("joined",)).start()
        daemon = context.Process(target=time.sleep, args=(60,), daemon=True)
        daemon.start()
        stopped = context.Process(target=time.sleep, args=(60,), daemon=True)
        stopped.start()
        stopped.suspend()
        paused = context.Process(target=child, args=("resumed",))
        paused.start()
        paused.suspend()
        print("end of main", flush=True)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_normal_end(method: str, tmp_path: Path) -> None:
    """Children are joined, daemons are ended; suspended ones, whom nobody else could wake up, don't hang it."""
    code, out, err = run(NORMAL.format(method=method), tmp_path)
    assert code == 0, err
    assert out.splitlines()[0] == "end of main" and sorted(out.splitlines()[1:]) == ["joined", "resumed"]
    assert err == ""


def test_ctrl_c(tmp_path: Path) -> None:
    code = """
        import time
        from treadle import multiprocessing
        if __name__ == "__main__":
            process = multiprocessing.Process(target=time.sleep, args=(60,), daemon=True)
            process.start()
            print("ready", flush=True)
            process.join()
    """
    with program(code, tmp_path) as started:
        started.said("ready")
        os.kill(started.pid, signal.SIGINT)
        assert started.wait(5) != 0
        assert started.err.count("KeyboardInterrupt") == 1
        started.assert_gone()


# -- the main module -------------------------------------------------------------------------------------------------

UNGUARDED = """
    import collections, dataclasses, enum, os, sys
    from treadle import multiprocessing

    print("start", flush=True)
    FACTOR = 3
    Pair = collections.namedtuple("Pair", "a b")

    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        def double(self): return Point(self.x * 2)

    class Trouble(Exception):
        def __init__(self, one, two):
            super().__init__(one)
            self.two = two

    class Unmentioned:
        def __eq__(self, other): return type(other) is Unmentioned

    def triple(x): return x * FACTOR
    def nested(x):
        def inner(y): return triple(y) + x
        return inner
    def troubled(): raise Trouble(1, 2)
    def same(point): return isinstance(point, Point), point.double()
    def echo(conn):
        while (thing := conn.recv()) is not None:
            conn.send(thing)
    def put(queue, x): queue.put((Point(x), Color.RED, Pair(x, x)))

    class Child(multiprocessing.get_context({method!r}).Process):
        def __init__(self, x):
            super().__init__()
            self.point = Point(x)
        def run(self):
            return self.point.double()

    context = multiprocessing.get_context({method!r})

    def result(target, *args):
        process = context.Process(target=target, args=args)
        process.start()
        return process.result(30)

    assert result(triple, 2) == 6
    FACTOR = 5
    assert result(triple, 2) == 10
    assert result(nested(1), 2) == 11
    assert result(lambda: FACTOR) == 5
    assert result(same, Point(4)) == (True, Point(8))
    try:
        result(troubled)
    except Trouble as error:
        assert error.two == 2
    else:
        raise AssertionError
    child = Child(3)
    child.start()
    assert child.result(30) == Point(6)
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,))
    process.start()
    for thing in (Point(1), Unmentioned(), triple, Color.RED, Pair(1, 2)):
        here.send(thing)
        assert here.recv() == thing
    here.send(None)
    process.join()
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 7))
    process.start()
    assert queue.get() == (Point(7), Color.RED, Pair(7, 7))
    process.join()
    with context.Pool(2) as pool:
        assert pool.map(triple, [1, 2]) == [5, 10]
    print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
@pytest.mark.parametrize("method", METHODS)
def test_a_program_without_a_guard(method: str, how: str, tmp_path: Path) -> None:
    code, out, err = run(UNGUARDED.format(method=method), tmp_path, how)
    assert code == 0, err
    assert out == "start\ndone\n", "and it was run once"
    assert "Trouble" in err and err.count("Traceback") == 1, "what the child prints of its exception"


GUARDED = """
    import os, sys
    from treadle import multiprocessing

    print("imported as", __name__, flush=True)

    class Point:
        def __init__(self, x): self.x = x

    def same(point): return type(point) is Point, Point(point.x + 1), sys.modules["__main__"].Point is Point
    def add(a, b): return a + b

    if __name__ == "__main__":
        class Late:
            pass
        def late(x): return isinstance(x, Late), add(1, 2), x
        context = multiprocessing.get_context({method!r})

        def result(target, *args):
            process = context.Process(target=target, args=args)
            process.start()
            return process.result(30)

        import operator
        assert result(operator.add, 1, 2) == 3
        assert result(lambda: operator.add(1, 2)) == 3
        print("not needed so far", flush=True)
        right, back, alias = result(same, Point(1))
        assert right and alias and type(back) is Point and back.x == 2
        instance, three, back = result(late, Late())
        assert instance and three == 3 and type(back) is Late
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_program_with_a_guard_is_run_again_when_it_is_needed(method: str, tmp_path: Path) -> None:
    code, out, err = run(GUARDED.format(method=method), tmp_path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["imported as __main__", "not needed so far"]
    assert set(lines[2:]) == (set() if method == "fork" else {"imported as __mp_main__"})


def test_as_a_module(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sibling.py").write_text("VALUE = 42")
    (package / "tool.py").write_text(
        "from treadle import multiprocessing\nfrom .sibling import VALUE\ndef f(): return VALUE\n"
        "if __name__ == '__main__':\n    p = multiprocessing.Process(target=f)\n    p.start()\n"
        "    print(p.result(30))\n"
    )
    (package / "__main__.py").write_text(
        "from treadle import multiprocessing\nfrom .sibling import VALUE\ndef f(): return VALUE\n"
        "p = multiprocessing.Process(target=f)\np.start()\nprint(p.result(30))\n"
    )
    for name in ("package.tool", "package"):
        code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r})"
        with program(code, tmp_path, python=("-m", name), PYTHONPATH=str(tmp_path)) as started:
            assert started.wait() == 0, started.err
            assert (started.out, started.err) == ("42\n", "")
            started.assert_gone()


def test_a_main_module_that_starts_processes_when_it_is_run_again(tmp_path: Path) -> None:
    """It has a guard, and a start of a process above it: told so, and no fork bomb."""
    code = """
        from treadle import multiprocessing
        def f(): pass
        p = multiprocessing.Process(target=f)
        p.start()
        p.join()
        if __name__ == "__main__":
            print(p.exitcode)
    """
    code_, out, err = run(code, tmp_path)
    assert code_ == 0 and out == "1\n"
    assert "before the" in err and "bootstrapping phase" in err


def test_a_program_that_used_the_standard_librarys_fork_server_first(tmp_path: Path) -> None:
    """Its server knows nothing of treadle; the children come into the session all the same."""
    code = """
        import multiprocessing as stdlib
        if __name__ == "__main__":
            first = stdlib.get_context("forkserver").Process(target=print, args=("first",))
            first.start()
            first.join()
            from treadle import multiprocessing
            from treadle._native import _core
            def f(lock):
                with lock:
                    return _core.board_identity()
            process = multiprocessing.get_context("forkserver").Process(target=f, args=(multiprocessing.Lock(),))
            process.start()
            assert process.result(30) == _core.board_identity()
    """
    code_, out, err = run(code, tmp_path)
    assert (code_, out, err) == (0, "first\n", "")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("made", ["context.Manager()", "SyncManager(ctx=context)"])
def test_a_worker_of_a_managers_pool(made: str, method: str, tmp_path: Path) -> None:
    """Its death costs one call, as everywhere; the standard library's pool would wait for ever."""
    code = f"""
        import os, signal
        from treadle import multiprocessing
        from treadle.multiprocessing.managers import SyncManager
        def work(x):
            if x is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return -x
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            manager = {made}
            if isinstance(manager, SyncManager):
                manager.start()
            with manager.Pool(2) as pool:
                print(pool.map(work, range(5)))
                try:
                    pool.apply(work, (None,))
                except Exception as error:
                    print(type(error).__name__)
                print(list(pool.imap(work, range(3))), pool.apply_async(work, (8,)).get(10))
            manager.shutdown()
    """
    status, out, err = run(code, tmp_path)
    assert (status, err) == (0, "")
    assert out == "[0, -1, -2, -3, -4]\nWorkerDied\n[0, -1, -2] -8\n"
