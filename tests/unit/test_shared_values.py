"""Value, Array, RawValue, RawArray and shared buffers: sent at any time, freed with their last user."""

from __future__ import annotations

import array
import contextlib
import copy
import ctypes
import gc
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shared_work import Point, add, relay, take_all, write

import treadle
from treadle import multiprocessing
from treadle._native import _core
from treadle.multiprocessing import sharedctypes
from treadle.shared.buffers import SharedBuffer
from treadle.testing.leaks import belongings

FORK = multiprocessing.get_context("fork")
HERE = str(Path(__file__).parent)
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


def test_values_and_arrays() -> None:
    value, items, point = FORK.Value("i", 3), FORK.Array("d", [1, 2.5, 3]), FORK.Value(Point, 1, 2.5)
    raw, text = FORK.RawArray("q", 1000), FORK.Array("c", 10)
    workers = [FORK.Process(target=add, args=(value, items, point, raw, text, 100)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert value.value == 403 and items[:] == [1, 802.5, 3] and (point.x, point.y) == (5, 2.5)
    assert raw[0] > 0 and text.value == b"done"


@pytest.mark.parametrize("size", [1, 30, 31, 5000], ids=lambda size: f"{8 * size} bytes")
def test_pickled_it_is_the_same(size: int) -> None:
    for made in (FORK.Array("d", size), FORK.RawArray("d", size)):
        again = pickle.loads(pickle.dumps(made))
        again[size - 1] = 5.5
        assert made[size - 1] == 5.5 and len(again) == size
        del made
        assert again[0] in (0.0, 5.5)
    one = FORK.RawValue(Point, 1, 2)
    again = pickle.loads(pickle.dumps(one))
    again.x = 9
    assert one.x == 9 and isinstance(one, Point)
    locked = FORK.Value("i", 0)
    again = pickle.loads(pickle.dumps(locked))
    with locked.get_lock():
        assert again.get_lock().locked()
        again.value += 1
    assert locked.value == 1


def test_a_copy_is_another() -> None:
    made = FORK.Value(Point, 1, 2.0).get_obj()
    other = sharedctypes.copy(made)
    other.x = 5
    assert made.x == 1 and pickle.loads(pickle.dumps(other)).x == 5
    plain = sharedctypes.copy(Point(7, 8))
    assert pickle.loads(pickle.dumps(plain)).x == 7
    assert sharedctypes.synchronized(sharedctypes.copy(ctypes.c_int(4))).value == 4


def test_locks_of_values() -> None:
    lock = FORK.Lock()
    assert FORK.Value("i", 5, lock=lock).get_lock() is lock
    assert not hasattr(FORK.Value("i", 5, lock=False), "get_lock")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        FORK.Array("i", 5, lock="no lock")


@pytest.mark.parametrize("cycles", [500, pytest.param(10_000, marks=pytest.mark.heavy)])
def test_values_come_and_go(cycles: int) -> None:
    before = belongings()
    for i in range(cycles):
        value, items = FORK.Value("i", i), FORK.Array("i", range(100))
        assert value.value == i and items[99] == 99
    del value, items
    gc.collect()
    assert not belongings().without(before)


def test_share_bytes() -> None:
    shared = treadle.share(b"hello")
    assert isinstance(shared, SharedBuffer) and shared == b"hello" and len(shared) == 5 and bytes(shared) == b"hello"
    again = pickle.loads(pickle.dumps(shared))
    again[0] = ord("H")
    assert shared.tobytes() == b"Hello" and shared[1:3].tobytes() == b"el"
    numbers = treadle.share(array.array("d", [1, 2, 3]))
    assert list(pickle.loads(pickle.dumps(numbers))) == [1, 2, 3]
    assert treadle.share(b"").tobytes() == b"" and pickle.loads(pickle.dumps(treadle.share(b""))) == b""
    if sys.version_info >= (3, 12):
        assert memoryview(numbers).format == "d"
    with pytest.raises(TypeError):
        treadle.share(5)


def test_share_readonly() -> None:
    shared = treadle.share(b"hello", readonly=True)
    for each in (shared, pickle.loads(pickle.dumps(shared))):
        assert each.readonly
        with pytest.raises(TypeError):
            each[0] = 1


def test_share_between_children() -> None:
    """The maker drops it once it is sent; a child that ends has passed it on."""
    first, second, last = FORK.Queue(), FORK.Queue(), FORK.Queue()
    workers = [FORK.Process(target=relay, args=pair) for pair in ((first, second), (second, last))]
    for worker in workers:
        worker.start()
    first.put(treadle.share(bytes(100_000)))
    result = last.get(timeout=20)
    for worker in workers:
        worker.join()
    assert result[0] == 2 and len(result) == 100_000


def test_shared_buffers_come_and_go() -> None:
    before = belongings()
    for i in range(300):
        shared = treadle.share(bytes(10_000))
        shared[0] = i % 256
        again = pickle.loads(pickle.dumps(shared))
        del shared
        assert again[0] == i % 256
    del again
    assert not belongings().without(before)


def kept() -> int:
    """How many segments this process has open."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:treadle-")
    return found


def test_a_sender_that_waits_lets_go_of_what_has_arrived() -> None:
    """It does nothing else with shared memory meanwhile."""
    box, arrived, over = multiprocessing.Queue(), multiprocessing.Event(), multiprocessing.Event()
    process = FORK.Process(target=take_all, args=(box, arrived, over))
    before = kept()
    for _ in range(20):
        box.put(treadle.share(bytes(100_000)))
    assert kept() >= before + 20
    box.put(None)
    process.start()
    assert arrived.wait(20)
    assert not over.wait(0.3)
    assert kept() <= before + 2  # what tells the process's outcome, too
    over.set()
    process.join()


def test_what_never_arrives_is_taken_for_lost() -> None:
    before = kept()
    sent = pickle.dumps(treadle.share(bytes(100_000)))
    _core.segments_tidy(600.0)
    assert kept() == before + 1
    _core.segments_tidy(0.0)
    assert kept() == before
    with pytest.raises(FileNotFoundError):
        pickle.loads(sent)


def test_in_a_managers_dict() -> None:
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        shared["buffer"] = treadle.share(b"x" * 1000)
        for _ in range(3):
            assert shared["buffer"][5] == ord("x")
        shared["buffer"][5] = ord("y")
        assert shared["buffer"][5] == ord("y")


FULL = """
import resource, treadle
from treadle import multiprocessing
kept = treadle.share(b"a" * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for make in (lambda: treadle.share(bytes(2 << 20)), lambda: multiprocessing.Array("c", 2 << 20)):
    try:
        make()
    except (MemoryError, OSError):
        pass
    else:
        raise SystemExit("there was no end of memory")
assert kept == b"a" * 1000 and treadle.share(b"b" * 1000) == b"b" * 1000
print("survived")
"""


def test_full_memory_is_an_exception() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("survived\n", "")


KILLED = """
import os, signal, sys, treadle
shared = treadle.share(bytes(50_000_000))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_killed_program() -> None:
    """No file, and no word of a resource tracker."""
    before = belongings()
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert not belongings().without(before)


class TestNumpy:
    @pytest.fixture(autouse=True)
    def numpy(self) -> Any:
        self.np = pytest.importorskip("numpy")

    def test_it_is_an_array(self) -> None:
        np = self.np
        plain = np.arange(12.0).reshape(3, 4)
        for original in (plain, np.asfortranarray(plain), plain.T, plain[::2, 1:], np.array(5), np.empty((0, 3))):
            shared = treadle.share(original)
            again = pickle.loads(pickle.dumps(shared))
            assert isinstance(again, np.ndarray) and again.dtype == original.dtype
            assert np.array_equal(again, original) and again.shape == original.shape
            shared[...] = 7
            assert (again == 7).all()
        assert treadle.share(np.asfortranarray(plain)).flags.f_contiguous

    def test_parts_are_shared_and_results_are_not(self) -> None:
        np = self.np
        shared = treadle.share(np.arange(10))
        part = pickle.loads(pickle.dumps(shared[8:2:-2]))
        part[0] = -1
        assert shared[8] == -1 and part.tolist() == [-1, 6, 4]
        for result in (shared + 1, shared[[1, 2]], shared.copy().view(np.ndarray), np.exp(shared)):
            assert type(result) is np.ndarray
        copied = pickle.loads(pickle.dumps(copy.copy(shared)))
        copied[0] = 5
        assert shared[0] == 0
        shared += 1
        assert shared[0] == 1 and isinstance(shared.sum(), np.integer)

    def test_readonly(self) -> None:
        np = self.np
        shared = treadle.share(np.arange(10), readonly=True)
        for each in (shared, shared[2:], pickle.loads(pickle.dumps(shared))):
            with pytest.raises(ValueError, match="read-only"):
                each[0] = 1

    def test_objects_have_no_bytes(self) -> None:
        with pytest.raises(TypeError, match="can't be shared"):
            treadle.share(self.np.array([object()]))

    def test_other_processes_write(self) -> None:
        shared = treadle.share(self.np.zeros(1000))
        worker = FORK.Process(target=write, args=(shared, shared[10:20]))
        worker.start()
        worker.join()
        assert shared[0] == 7 and (shared[10:20] == 9).all() and shared.sum() == 97

    def test_the_array_outlives_its_maker(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {HERE!r})\n"
            "import numpy, treadle\n"
            "from treadle import multiprocessing\n"
            "def make(queue, arrived):\n    queue.put(treadle.share(numpy.arange(100_000)))\n    arrived.wait(30)\n"
            "if __name__ == '__main__':\n"
            "    queue, arrived = multiprocessing.Queue(), multiprocessing.Event()\n"
            "    process = multiprocessing.Process(target=make, args=(queue, arrived))\n"
            "    process.start()\n"
            "    array = queue.get()\n"
            "    arrived.set()\n"
            "    process.join()\n"
            "    print(array.sum())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
        assert (done.stdout, done.stderr) == ("4999950000\n", "")


def test_share_loads_neither_numpy_nor_lmdb() -> None:
    code = "import sys, treadle; treadle.share(b'x'); assert not {'numpy', 'lmdb'} & {*sys.modules}; print('ok')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), timeout=50
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


@pytest.mark.parametrize("make", ["Value", "RawValue", "Array", "RawArray"])
def test_a_typecode_that_there_is_not(make: str) -> None:
    with pytest.raises(TypeError, match="bad typecode 'x'"):
        getattr(FORK, make)("x", 1)
