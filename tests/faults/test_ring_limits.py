"""Process queues on machines that are full, small, or odd; and ten thousand of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.timeout(200)


def run(code: str, *before: str) -> str:
    """Run it in a Python of its own, and return what it printed."""
    command = [*before, sys.executable, "-c", textwrap.dedent(code)]
    environ = {name: value for name, value in os.environ.items() if name != "TREADLE_BOARD"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FULL = """
    import resource, sys
    from treadle.queues.shared import Queue
    make = {make}
    q = Queue()
    resource.setrlimit(resource.RLIMIT_FSIZE, (120 << 20, resource.RLIM_INFINITY))
    for turn in range(3):
        count = 0
        try:
            while True:
                q.put(make(count))
                count += 1
        except (MemoryError, OSError) as error:
            assert count > 0 and q.qsize() == count, (count, q)
        for i in range(count):
            assert q.get() == make(i), i
        assert q.empty()
        print(turn, count)
"""


@pytest.mark.parametrize(
    "make", ["lambda i: b'%d' % i * 2000", "lambda i: b'%d' % i * 20_000", "lambda i: b'%05d' % i * 300_000"]
)
def test_a_full_machine_is_an_exception_and_nothing_is_lost(make: str) -> None:
    """The file-size limit makes the same system calls fail that fail when there is no memory."""
    lines = run(FULL.format(make=make)).splitlines()
    counts = [int(line.split()[1]) for line in lines]
    assert len(counts) == 3
    assert min(counts) >= counts[0] // 2, "the memory is used again"


def test_no_descriptors_left_is_an_exception() -> None:
    run("""
        import os, resource
        from treadle.queues.shared import Queue
        q = Queue()
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, 100))
        made = []
        try:
            while True:
                made.append(Queue())
        except OSError as error:
            assert error.errno == 24, error
        assert made
        q.put(1)
        assert q.get() == 1
        del made
        Queue().put(1)
    """)


def namespaces() -> bool:
    """May this process have a mount namespace of its own?"""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "mount", ["mount -t tmpfs -o size=1m none /dev/shm", "mount -t tmpfs -o size=0,mode=000,ro none /dev"]
)
def test_a_small_or_no_shared_memory_folder(mount: str) -> None:
    if not namespaces():
        pytest.skip("this process may not make mount namespaces")
    code = """
        import multiprocessing
        from treadle.queues.shared import Queue
        context = multiprocessing.get_context("fork")
        q = Queue()
        process = context.Process(target=q.put, args=(b"x" * 80_000_000,))
        process.start()
        process.join()
        assert len(q.get()) == 80_000_000
    """
    shell = f'{mount} && exec "$0" "$@"'
    run(code, "unshare", "-rm", "sh", "-c", shell)


def test_join_before_drain() -> None:
    run("""
        import multiprocessing
        from treadle.queues.shared import Queue
        q = Queue()
        def put_all():
            for i in range(2000):
                q.put(bytes([i % 256]) * 50_000)
        process = multiprocessing.get_context("fork").Process(target=put_all)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert q.qsize() == 2000
        for i in range(2000):
            assert q.get() == bytes([i % 256]) * 50_000
    """)


@pytest.mark.heavy
@pytest.mark.parametrize("pieces", [1, 64])
def test_join_before_drain_of_a_gigabyte(pieces: int) -> None:
    run(f"""
        import multiprocessing
        from treadle.queues.shared import Queue
        q = Queue()
        def put_all():
            item = bytearray((1 << 30) // {pieces})
            item[-1] = 1
            for _ in range({pieces}):
                q.put(item)
        process = multiprocessing.get_context("fork").Process(target=put_all)
        process.start()
        process.join()
        assert process.exitcode == 0
        for _ in range({pieces}):
            item = q.get()
            assert (len(item), item[-1]) == ((1 << 30) // {pieces}, 1)
    """)


CYCLES = {
    "create, use, drop": "q = Queue(3); q.put(1); q.get()",
    "create, drop": "Queue()",
    "SimpleQueue": "q = SimpleQueue(); q.put(b'x' * 20000); q.get()",
    "JoinableQueue": "q = JoinableQueue(); q.put(1); q.get(); q.task_done(); q.join()",
    "sent": "q = pickle.loads(pickle.dumps(Queue())); q.put(1); q.get()",
    "closed": "q = Queue(); q.put(1); q.close()",
    "take": "q = Queue(); q.put(1); a = q.take().__enter__(); a.__exit__(None, None, None)",
    "large buffers": "q.put(pickle.PickleBuffer(large)); q.get()",
    "segment": "s = pickle.loads(pickle.dumps(Segment(5000))); memoryview(s)[3] = 1; s.grow(9000); memoryview(s)",
}


@pytest.mark.parametrize("what", CYCLES)
def test_ten_thousand_cycles_leave_nothing(what: str) -> None:
    output = run(f"""
        import os, pickle
        from treadle.queues.shared import JoinableQueue, Queue, SimpleQueue
        from treadle._native._core import Segment

        large = bytearray(300_000)
        q = Queue()

        def cycle():
            global q
            {CYCLES[what]}

        def state():
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            maps = sum(1 for line in open("/proc/self/maps"))
            return len(os.listdir("/proc/self/fd")), maps, int(status["VmRSS"].split()[0])

        for _ in range(1000):
            cycle()
        before = state()
        for _ in range(10_000):
            cycle()
        print(*before, *state())
    """)
    fds, maps, memory, fds_after, maps_after, memory_after = map(int, output.split())
    assert fds_after == fds
    assert maps_after <= maps + 3
    assert memory_after <= memory + 600, "kB"
