"""What the workers of `test_pool_behaviour.py` run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def pid(_: object = None) -> int:
    return os.getpid()


def count(folder: str) -> int:
    """How often it was called with this folder, this time included."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return len(list(Path(folder).iterdir()))


def fail_until(folder: str, times: int, how: str = "raises") -> int:
    """Fails so many times, then returns how often it was called."""
    calls = count(folder)
    if calls <= times:
        if how == "raises":
            raise OSError(f"call {calls}")
        if how == "value":
            raise ValueError(f"call {calls}")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(60)
        if how == "memory":
            return len(bytearray(500 << 20))
    return calls


def stuck_in_c(_: object = None) -> None:
    """Holds the interpreter lock for a very long time."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def stuck_in_a_loop(_: object = None) -> int:
    return sum(range(10**12))


def mixed(number: int) -> int:
    if number == 25:
        stuck_in_c()
    return number


def hold(mebibytes: int) -> int:
    """Keep so much, and return our pid."""
    kept.append(bytearray(mebibytes << 20))
    return os.getpid()


kept: list[bytearray] = []


def allocate(how: str, mebibytes: int) -> int:
    size = mebibytes << 20
    if how == "at once":
        return len(bytearray(size))
    if how == "step by step":
        parts = [bytearray(1 << 20) for _ in range(mebibytes)]
        return len(parts)
    if how == "in C":
        return (1 << (size * 8)).bit_length()  # one integer of hundreds of megabytes
    if how == "shared":
        import mmap

        with mmap.mmap(-1, size) as shared:
            for position in range(0, size, 4096):
                shared[position] = 1
            time.sleep(30)
    if how == "in a child":
        code = f"import time; kept = bytearray({size}); time.sleep(30)"
        subprocess.run([sys.executable, "-c", code], preexec_fn=_unlimited, check=True)
    if how == "result":
        return "x" * size  # type: ignore[return-value]
    return 0


def _unlimited() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def begin_and_wait(path: str) -> None:
    """Say that it runs (by its pid), and never end; deaf to SIGTERM and KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path + ".part").write_text(str(os.getpid()))
    Path(path + ".part").rename(path)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def wait_for(path: str, seconds: float = 20.0) -> str:
    until = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > until:
            raise TimeoutError(path)
        time.sleep(0.002)
    return Path(path).read_text()


def log(folder: str, name: str) -> None:
    with open(Path(folder, "log"), "a") as file:
        file.write(name + "\n")


def inner(number: int) -> int:
    """A pool of its own, in a worker."""
    import treadle

    with treadle.Pool(2, "processes") as pool:
        return sum(pool.map(abs, range(number)))


def inner_and_die(path: str) -> None:
    """A pool that is busy when this worker is killed."""
    import treadle

    pool = treadle.Pool(1, "processes")
    pool.submit(begin_and_wait, path)
    wait_for(path)
    os.kill(os.getpid(), signal.SIGKILL)


def thread(_: int) -> int:
    """Of which no two that live are the same; the kernel gives its number to another one much later."""
    return threading.get_native_id()
