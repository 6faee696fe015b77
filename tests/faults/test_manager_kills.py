"""kill -9 of processes in the midst of changing a manager's objects: others see it before or after, never between."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manager_kill_work as work
import pytest
from manager_check import problems

from treadle.shared import Manager
from treadle.testing.leaks import belongings

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]

FORK = multiprocessing.get_context("fork")
PATIENCE_SECONDS = 1.5  # what a test may take for it on a busy machine


def make(where: str, tmp_path: Path) -> Manager:
    return Manager() if where == "memory" else Manager(tmp_path / "state.db")


def storm(kills: int, start: Callable[[int], Any], check: Callable[[], None], workers: int = 3) -> None:
    """Kill workers at random moments; replace them; check after each kill."""
    chance = random.Random(kills)
    alive = [start(seed) for seed in range(workers)]
    try:
        for seed in range(workers, workers + kills):
            time.sleep(chance.random() * 0.02)  # the moment of the kill is arbitrary: that is what is tested
            victim = alive.pop(chance.randrange(len(alive)))
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            assert victim.exitcode == -signal.SIGKILL, "the worker ended by itself"
            check()
            alive.append(start(seed))
    finally:
        for worker in alive:
            worker.kill()
            worker.join()


def spawn(target: Callable[..., None], *args: Any) -> Callable[[int], Any]:
    def start(seed: int) -> Any:
        process = FORK.Process(target=target, args=(*args, seed))
        process.start()
        return process

    return start


@pytest.mark.parametrize(
    "kills", [60, pytest.param(1500, marks=[pytest.mark.heavy, pytest.mark.by_hand, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("where", ["memory", "file"])
def test_transactions(where: str, kills: int, tmp_path: Path) -> None:
    slowest = 0.0

    def check() -> None:
        nonlocal slowest
        began = time.monotonic()
        with manager.transaction():
            slowest = max(slowest, time.monotonic() - began)
            assert sum(accounts.values()) == work.ACCOUNTS * work.EACH
            assert len(journal) == counter.value

    with make(where, tmp_path) as manager:
        accounts = manager.dict(dict.fromkeys(range(work.ACCOUNTS), work.EACH))
        journal, counter = manager.list(), manager.Value("i", 0)
        storm(kills, spawn(work.transfer, accounts, journal, counter), check)
        check()
        assert slowest < PATIENCE_SECONDS
        manager._number_of_objects()  # takes back what the dead held
        assert problems(manager) == []


@pytest.mark.parametrize(
    "kills", [60, pytest.param(1500, marks=[pytest.mark.heavy, pytest.mark.by_hand, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("where", ["memory", "file"])
def test_every_operation(where: str, kills: int, tmp_path: Path) -> None:
    with make(where, tmp_path) as manager:
        shared = manager.dict(numbers=manager.dict(), items=manager.list(), inner=manager.dict())
        checked = 0

        def check() -> None:
            nonlocal checked
            checked += 1
            shared["n"] = shared.get("n", 0)
            if checked % 10 == 0:
                assert problems(manager) == []

        storm(kills, spawn(work.churn, shared), check)
        assert problems(manager) == []
        assert manager._number_of_objects() == 4
        assert problems(manager) == []


def test_a_killed_process_holds_nothing() -> None:
    def hold(manager: Manager, shared: Any) -> None:
        shared["mine"] = [manager.list(range(1000)) for _ in range(10)]
        keep = [manager.dict() for _ in range(10)]
        del shared["mine"][:]
        shared["ready"] = len(keep)
        signal.pause()

    with Manager() as manager:
        shared = manager.dict()
        process = FORK.Process(target=hold, args=(manager, shared))
        process.start()
        while "ready" not in shared:
            assert process.is_alive()
            time.sleep(0.001)
        assert manager._number_of_objects() > 10
        process.kill()
        process.join()
        del shared["mine"]
        assert manager._number_of_objects() == 1
        assert problems(manager) == []


def test_the_lock_of_a_killed_process() -> None:
    """The others go on within 0.2 s."""

    def hold(shared: Any) -> None:
        with shared.transaction():
            shared["half"] = "done"
            writer.send(1)
            signal.pause()

    with Manager() as manager:
        shared = manager.dict()
        reader, writer = FORK.Pipe(False)
        process = FORK.Process(target=hold, args=(shared,))
        process.start()
        writer.close()
        reader.recv()
        process.kill()
        began = time.monotonic()
        assert "half" not in shared
        assert time.monotonic() - began < PATIENCE_SECONDS
        process.join()
        reader.close()


SCRIPT = """
import sys
from treadle.shared import Manager

manager = Manager(sys.argv[1])
cache = manager.dict(name="cache")
for i in range(int(sys.argv[2])):
    cache.update_value("n", lambda n: n + 1, default=0)
    with cache.transaction():
        cache["a"] = i
        cache["b"] = i
if len(sys.argv) > 3:
    print(cache.copy(), flush=True)
    sys.stdin.read()
"""


def script(*args: str, **kwargs: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *args], text=True, **kwargs)


def test_a_file_lasts(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    first = script(path, "10", "wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None and first.stdin is not None
    assert first.stdout.readline() == "{'n': 10, 'a': 9, 'b': 9}\n"
    first.kill()
    first.communicate()
    with Manager(path) as manager:
        assert manager.names() == ["cache"]
        assert manager.dict(name="cache").copy() == {"n": 10, "a": 9, "b": 9}
        with pytest.raises(TypeError, match="'cache' is the name of a dict, not a list"):
            manager.list(name="cache")
        manager.forget("cache")
        assert manager.dict(name="cache").copy() == {}
        assert problems(manager) == []
    assert os.listdir(tmp_path) == ["state.db"]


def test_programs_share_a_file(tmp_path: Path) -> None:
    """Four programs that know nothing of each other."""
    path = str(tmp_path / "state.db")
    programs = [script(path, "200") for _ in range(4)]
    for program in programs:
        assert program.wait(60) == 0
    with Manager(path) as manager:
        cache = manager.dict(name="cache")
        assert cache["n"] == 800 and cache["a"] == cache["b"] == 199
        assert problems(manager) == []


def test_programs_killed_at_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with Manager(path) as manager:
        cache = manager.dict({"a": 0, "b": 0, "n": 0}, name="cache")
        for _ in range(8):
            before = cache["n"]
            program = script(path, "1000000")
            while cache["n"] < before + 50:
                assert program.poll() is None
                with cache.transaction():
                    assert cache["a"] == cache["b"]
            program.kill()
            program.wait()
            with cache.transaction():
                assert cache["a"] == cache["b"]
        assert problems(manager) == []


FULL = """
import resource, sys
from treadle.shared import Manager

manager = Manager()
shared = manager.dict(small=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # no file of this process may be larger: memfds neither
try:
    for i in range(100):
        shared[i] = b"x" * 100_000
except MemoryError as error:
    assert 5 < i < 11, i
else:
    raise SystemExit("there was no end of memory")
assert sorted(map(str, shared)) == sorted(["small", *map(str, range(i))])
try:
    with shared.transaction():
        del shared[0]
        shared["new"] = b"y" * 300_000
        shared["more"] = b"y" * 2_000_000
except MemoryError:
    pass
else:
    raise SystemExit("there was no end of memory")
assert "new" not in shared and shared[0] == b"x" * 100_000
del shared[0], shared[1], shared[2]
shared["small"] = 2
assert shared["small"] == 2
sys.path.insert(0, sys.argv[1])
from manager_check import problems
assert problems(manager) == []
print("survived")
"""


def run(code: str, *command: str) -> str:
    here = os.path.dirname(__file__)
    done = subprocess.run([*command, sys.executable, "-c", code, here], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_full_memory_is_an_exception() -> None:
    assert run(FULL) == "survived\n"


NO_ADDRESSES = """
import multiprocessing, resource, sys
from treadle.shared import Manager

def limit(more):
    now = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))

def other(shared, ready, grown):
    limit(10 << 20)
    ready.send(1)
    grown.recv()
    for _ in range(3):
        try:
            shared["small"]
        except MemoryError:
            continue
        raise SystemExit("it had addresses for all of it")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert shared["small"] == 1

manager = Manager()
shared = manager.dict(small=1)
fork = multiprocessing.get_context("fork")
(here, ready), (grown, there) = fork.Pipe(False), fork.Pipe(False)
process = fork.Process(target=other, args=(shared, ready, grown))
process.start()
here.recv()
limit(100 << 20)
try:
    for i in range(1000):
        shared[i] = b"x" * 1_000_000
except MemoryError as error:
    assert i > 20, i
else:
    raise SystemExit("there was no end of addresses")
assert len(shared) == i + 1 and shared["small"] == 1
there.send(1)
process.join()
assert process.exitcode == 0, process.exitcode
shared.clear()  # which needs no memory for all that it removes
shared["new"] = b"x" * 1_000_000
sys.path.insert(0, sys.argv[1])
from manager_check import problems
assert problems(manager) == []
print("survived")
"""


def test_no_addresses_is_an_exception() -> None:
    """`ulimit -v`: LMDB can't go on if it doesn't get the map that it wants."""
    assert run(NO_ADDRESSES) == "survived\n"


SMALL = """
import multiprocessing, os
from treadle.shared import Manager

def work(shared):
    shared["child"] = os.getpid()

manager = Manager()
shared = manager.dict(big=b"x" * 100_000_000)
process = multiprocessing.get_context("fork").Process(target=work, args=(shared,))
process.start()
process.join()
assert shared["child"] == process.pid
assert not os.path.exists("/dev/shm") or os.listdir("/dev/shm") == []
print("worked")
"""


@pytest.mark.parametrize("mount", ["mount -t tmpfs -o size=64m none /dev/shm", "mount -t tmpfs -o size=0 none /dev"])
def test_containers(mount: str) -> None:
    """A /dev/shm of 64 MB, and none at all."""
    shell = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*shell, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    line = f'{mount} && exec "$@"'
    assert run(SMALL, *shell, "sh", "-c", line, "sh") == "worked\n"


@pytest.mark.parametrize("cycles", [300, pytest.param(10_000, marks=[pytest.mark.heavy, pytest.mark.timeout(300)])])
def test_cycles(cycles: int) -> None:
    """Make, use, drop: nothing grows."""
    with Manager() as manager:
        shared = manager.dict()

        def cycle(i: int) -> None:
            inner = manager.list([i, "x" * 1000])
            shared["inner"] = inner
            shared["set"] = manager.set([1, 2])
            assert shared["inner"].pop() == "x" * 1000
            value, array, space = manager.Value("i", i), manager.Array("i", range(300)), manager.Namespace(a=inner)
            assert value.value == i and array[7] == 7 and space.a[0] == i
            if i % 100 == 0:
                child = FORK.Process(target=shared.update, args=({"child": manager.dict(i=i)},))
                child.start()
                child.join()
                assert shared["child"]["i"] == i
            shared.clear()

        for i in range(100):
            cycle(i)
        size, before, memory = os.fstat(manager._space.store.fd).st_size, belongings(), resident()
        for i in range(cycles):
            cycle(i)
        assert manager._number_of_objects() == 1
        assert os.fstat(manager._space.store.fd).st_size == size
        assert not belongings().without(before)
        assert resident() - memory < 8 << 20
        assert problems(manager) == []


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_managers_come_and_go() -> None:
    before = belongings()
    for i in range(50):
        manager = Manager()
        shared = manager.dict(i=i)
        if i % 2:
            manager.shutdown()
        del manager
        if not i % 2:
            assert shared["i"] == i, "the objects outlive their manager"
        del shared
    assert not belongings().without(before)
