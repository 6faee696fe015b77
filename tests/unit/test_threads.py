"""Thread beyond the standard library: result, exception, interrupt, context, and what a fork does to locks."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading as plain
import time

import pytest

from treadle import queue, threading
from treadle.threading import Interrupted, Thread

pytestmark = pytest.mark.timeout(60)


def run(target, *args) -> Thread:
    thread = Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def quiet():
    before, threading.excepthook = threading.excepthook, lambda args: None
    yield
    threading.excepthook = before


def test_result() -> None:
    assert run(lambda: 42).result(10) == 42
    assert run(lambda: None).exception(10) is None


def test_result_raises_what_the_thread_raised(quiet) -> None:
    def fail() -> None:
        raise KeyError("lost")

    thread = run(fail)
    with pytest.raises(KeyError, match="lost") as caught:
        thread.result(10)
    assert caught.traceback[-1].name == "fail"
    assert isinstance(thread.exception(0), KeyError)


def test_result_of_a_subclass() -> None:
    class Mine(Thread):
        def run(self):
            return "own"

    thread = Mine()
    thread.start()
    assert thread.result(10) == "own"


def test_result_in_time() -> None:
    gate = threading.Event()
    thread = run(gate.wait)
    with pytest.raises(TimeoutError):
        thread.result(0.02)
    gate.set()
    assert thread.result(10) is True
    with pytest.raises(RuntimeError):
        Thread().result()


def test_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("here")
    context = contextvars.copy_context()
    variable.set("later")
    thread = Thread(target=variable.get, context=context)
    thread.start()
    assert thread.result(10) == "here"


WAITS = {
    "lock": lambda: threading.Lock().__enter__,
    "event": lambda: threading.Event().wait,
    "semaphore": lambda: threading.Semaphore(0).acquire,
    "queue": lambda: queue.Queue().get,
    "simple queue": lambda: queue.SimpleQueue().get,
    "barrier": lambda: threading.Barrier(2).wait,
    "priority queue": lambda: queue.PriorityQueue().get,
}


@pytest.mark.parametrize("what", WAITS)
def test_interrupt_in_a_wait(what: str) -> None:
    wait = WAITS[what]()
    if what == "lock":
        wait()  # somebody else has it
    thread = run(wait)
    while not any(w.tid == thread.native_id for w in waits_now()):
        time.sleep(0.001)
    begin = time.monotonic()
    thread.interrupt()
    assert isinstance(thread.exception(10), Interrupted)
    assert time.monotonic() - begin < 1


def waits_now():
    from treadle import diagnose

    return diagnose.waits()


def test_interrupt_in_a_condition_leaves_the_lock_right() -> None:
    condition, log = threading.Condition(), []

    def wait() -> None:
        with condition:
            try:
                condition.wait()
            except Interrupted:
                log.append(condition._is_owned())
                raise

    thread = run(wait)
    while not any(w.tid == thread.native_id for w in waits_now()):
        time.sleep(0.001)
    thread.interrupt()
    assert isinstance(thread.exception(10), Interrupted)
    assert log == [True]
    assert condition.acquire(blocking=False)


def test_interrupt_between_instructions() -> None:
    started = plain.Event()

    def spin() -> None:
        started.set()
        while True:
            pass

    thread = run(spin)
    started.wait(10)
    thread.interrupt()
    assert isinstance(thread.exception(10), Interrupted)


def test_an_interrupt_is_delivered_once() -> None:
    """Many times, at every moment of a short wait: each interrupt is seen exactly once."""
    seen, sent, stop, armed = [0], [0], [False], [False]
    event = threading.Event()

    def work() -> None:
        while not stop[0]:
            try:
                while not stop[0]:
                    armed[0] = True
                    event.wait(0.0005)
            except Interrupted:
                seen[0] += 1

    def until(condition) -> None:
        limit = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0)

    thread = run(work)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        armed[0] = False
        until(lambda: armed[0])  # it is inside its try statement again
        sent[0] += 1
        thread.interrupt()
        until(lambda: seen[0] >= sent[0])
        assert seen[0] == sent[0]
    stop[0] = True
    thread.join(10)
    assert seen[0] == sent[0] > 10


def test_an_interrupt_right_after_the_start() -> None:
    for _ in range(200):
        thread = run(threading.Event().wait)
        thread.interrupt()
        assert isinstance(thread.exception(10), Interrupted)


def test_an_interrupt_does_not_tear_the_end_of_a_thread() -> None:
    for _ in range(300):
        thread = run(lambda: None)
        thread.interrupt()
        thread.interrupt()
        thread.join(10)
        assert thread.ident not in threading._active
        assert isinstance(thread.exception(0), (Interrupted, type(None)))


def test_interrupt_of_one_that_has_ended() -> None:
    thread = run(lambda: None)
    thread.join()
    thread.interrupt()
    with pytest.raises(RuntimeError):
        Thread().interrupt()


@pytest.mark.parametrize("what", ["Lock().acquire", "RLock().acquire", "Event().wait", "Semaphore().acquire",
                                  "Condition().wait", "Barrier(2).wait"])  # fmt: skip
def test_ctrl_c_ends_every_wait(what: str) -> None:
    script = textwrap.dedent(f"""
        import os, signal, threading as plain
        from treadle import threading
        thing = threading.{what}
        owner = thing.__self__
        if hasattr(owner, "acquire") and "Condition" not in {what!r}:
            other = plain.Thread(target=owner.acquire); other.start(); other.join()
        if "Condition" in {what!r}:
            owner.acquire()
        plain.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            os.environ["TREADLE_DEADLOCK"] = "off"
            thing()
        except KeyboardInterrupt:
            print("interrupted")
    """)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=30,
        env={**os.environ, "TREADLE_DEADLOCK": "off"},
    )  # fmt: skip
    assert done.stdout == "interrupted\n", done.stderr
    assert time.monotonic() - begin < 10


def test_a_signal_handler_may_wait_and_notify() -> None:
    """The handler runs inside a wait of the same thread; the notification that comes meanwhile is not lost."""
    condition, log = threading.Condition(threading.RLock()), []
    event = threading.Event()

    def handler(signum, frame) -> None:
        event.wait(0.05)  # a wait inside the wait
        with condition:
            log.append("handled")
            condition.notify_all()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        plain.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        with condition:
            assert condition.wait(10)
        assert log == ["handled"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def forked(function) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork() -> None:
    mine, lock, q = threading.RLock(), threading.Lock(), queue.Queue()

    def child() -> None:
        assert mine._is_owned()  # what this thread held, it holds
        mine.release()
        assert not mine._is_owned()
        lock.release()
        with lock:
            q.put(1)
            assert q.get() == 1
        thread = Thread(target=lambda: 5)
        thread.start()
        assert thread.result(10) == 5
        pids = {wait.pid for wait in __import__("treadle.diagnose").diagnose.threads()}
        assert os.getpid() in pids

    with mine, lock:
        assert forked(child) == 0
        assert mine._is_owned()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_while_another_thread_holds_a_lock() -> None:
    lock, holds, done = threading.Lock(), plain.Event(), plain.Event()

    def hold() -> None:
        with lock:
            holds.set()
            done.wait(20)

    thread = run(hold)
    holds.wait(10)

    def child() -> None:
        assert lock.locked()  # as in the standard library: nobody will release it
        assert lock.acquire(timeout=0.1) is False
        lock._at_fork_reinit()
        assert lock.acquire(False)

    assert forked(child) == 0
    done.set()
    thread.join(10)


def test_subinterpreters() -> None:
    script = textwrap.dedent("""
        from treadle import threading, queue
        q = queue.Queue()
        thread = threading.Thread(target=q.put, args=(threading.Lock().locked(),))
        thread.start()
        assert q.get(timeout=10) is False
        thread.join()
        lock = threading.Lock()
        with lock:
            try:
                with lock:
                    pass
            except threading.DeadlockError:
                pass
            else:
                raise AssertionError
    """)
    try:
        import _interpreters
    except ImportError:
        interpreters = pytest.importorskip("_xxsubinterpreters")
        this = interpreters.create(isolated=False)  # isolated ones have no threads in Python 3.11
        assert interpreters.run_string(this, script) is None
        interpreters.destroy(this)
    else:
        this = _interpreters.create()
        assert _interpreters.exec(this, script) is None
        _interpreters.destroy(this)


def test_reprs() -> None:
    lock = threading.Lock(name="box")
    assert "unlocked" in repr(lock) and "'box'" in repr(lock)
    with lock:
        assert "owner='MainThread'" in repr(lock)
        thread = run(lambda: lock.acquire(timeout=20))
        while "waiters=1" not in repr(lock):
            time.sleep(0.001)
    assert thread.result(10)
    assert "count=0" in repr(threading.RLock())
    assert "1 items" in repr_with_item()
    assert "readers=0" not in repr(threading.RWLock(name="rw"))


def repr_with_item() -> str:
    q = queue.Queue()
    q.put(1)
    return repr(q)


def test_a_lock_is_small() -> None:
    assert sys.getsizeof(threading.Lock()) <= 128


def test_an_interrupt_leaves_the_interpreter_as_it_was() -> None:
    """Taking an exception back from a thread must not leave the interpreter's flag for it set: traced code would hang
    on Python 3.11, and all code be slower on 3.12."""
    script = textwrap.dedent("""
        import sys
        from treadle import threading
        event = threading.Event()
        waiting = threading.Thread(target=event.wait)
        waiting.start()
        waiting.interrupt()
        waiting.join()
        def trace(frame, event, arg):
            return trace
        def traced():
            return "returned"
        sys.settrace(trace)
        print(traced())
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stdout == "returned\n", done.stderr
