"""Things that go wrong, on demand: in a task, in its argument, its function, its result or its exception."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE = 20.0


class Refusal(Exception):
    """What is raised where something is asked to raise."""


def hang_in_c() -> None:
    """A loop in C that holds the interpreter lock and hears no signal handler."""
    sum(range(10**15))


def hang() -> None:
    """A wait that nothing ends."""
    while True:
        time.sleep(1000)


ACTIONS: dict[str, Callable[[], Any]] = {}


def action(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a way to go wrong."""

    def register(fn: Callable[[], Any]) -> Callable[[], Any]:
        ACTIONS[name] = fn
        return fn

    return register


@action("nothing")
def _nothing() -> None:
    pass


@action("raise")
def _raise() -> None:
    raise Refusal("as ordered")


@action("exit")
def _exit() -> None:
    sys.exit(7)


@action("os._exit")
def _os_exit() -> None:
    os._exit(9)


@action("segfault")
def _segfault() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # no dump of all stacks into the test's output
    with open("/proc/self/comm", "w") as file:
        file.write("doomed")
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


@action("kill")
def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


action("hang")(hang)


def act(name: str) -> Any:
    """Go wrong in this way."""
    return ACTIONS[name]()


class Pickles:
    """Goes wrong when it is pickled, but not in the process `spare`."""

    def __init__(self, how: str, spare: int | None = None) -> None:
        self.how = how
        self.spare = spare

    def __reduce__(self) -> Any:
        if os.getpid() != self.spare:
            act(self.how)
        return Pickles, (self.how, self.spare)

    def __call__(self, *args: Any) -> str:
        return "called"


def _unpickle(how: str, spare: int | None) -> Unpickles:
    if os.getpid() != spare:
        act(how)
    return Unpickles(how, spare)


class Unpickles:
    """Goes wrong when it is unpickled, but not in the process `spare`."""

    def __init__(self, how: str, spare: int | None = None) -> None:
        self.how = how
        self.spare = spare

    def __reduce__(self) -> Any:
        return _unpickle, (self.how, self.spare)

    def __call__(self, *args: Any) -> str:
        return "called"


class PicklingError(Exception):
    """An exception that goes wrong when it is pickled."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __reduce__(self) -> Any:
        act(self.how)
        return PicklingError, (self.how,)


def _unpickle_error(how: str) -> Exception:
    act(how)
    return UnpicklingError(how)


class UnpicklingError(Exception):
    """An exception that goes wrong when it is unpickled."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __reduce__(self) -> Any:
        return _unpickle_error, (self.how,)


class ElsewhereError(Exception):
    """An exception that can be rebuilt in the process that made it, and in no other."""

    def __init__(self, home: int) -> None:
        super().__init__(home)
        self.home = home

    def __reduce__(self) -> Any:
        return _only_at, (self.home,)


def _only_at(home: int) -> Exception:
    if os.getpid() != home:
        raise Refusal("not here")
    return ElsewhereError(home)


class TwoArguments(Exception):
    """Its `__init__` has two required arguments and passes on one."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class HoldsALock(Exception):
    """Carries something that can't be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        import threading

        self.lock = threading.Lock()
        self.text = text


class NoStr(Exception):
    """Neither `str` nor `repr` work."""

    def __str__(self) -> str:
        raise Refusal("no str")

    __repr__ = __str__


def identity(x: Any) -> Any:
    return x


def ignore(x: Any) -> str:
    return "ignored"


def give(kind: str, how: str, spare: int | None) -> Any:
    """Make the troublesome result where it is returned."""
    return (Pickles if kind == "pickle" else Unpickles)(how, spare)


def throw(kind: str, *args: Any) -> Any:
    """Raise an exception of the class of that name."""
    raise globals()[kind](*args)


def throw_lambda() -> Any:
    raise ValueError(lambda: 1, "two")


def square(x: int) -> int:
    return x * x


def until(path: str | Path, deadline: float = DEADLINE) -> None:
    """Wait until the file exists; the test creates it.  Raises TimeoutError."""
    end = time.monotonic() + deadline
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.002)


def touch(path: str | Path) -> None:
    with open(path, "x"):
        pass


def gate(started: str, go: str, value: Any = None) -> Any:
    """Say that it runs, and go on when told to."""
    touch(started)
    until(go)
    return value


def log(path: str, text: str) -> None:
    """Append one line, whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, (text + "\n").encode())
    finally:
        os.close(fd)


def lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


def logged_sleep(path: str, i: int, seconds: float) -> int:
    """Note the start, work a little, note the end."""
    log(path, f"start {i} {os.getpid()}")
    time.sleep(seconds)
    log(path, f"end {i} {os.getpid()}")
    return i


def spin(seconds: float) -> float:
    """Compute for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return seconds


def large(size: int) -> bytes:
    return b"x" * size


def size_of(blob: bytes) -> int:
    return len(blob)


class Large:
    """Small here, large in its pickled form."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return size_of, (b"x" * self.size,)


def say_and_give(path: str, size: int) -> bytes:
    """Say that the result comes now; its pickling takes long enough to be killed in it, or in its writing."""
    touch(path)
    return b"x" * size


def hang_in_mode(mode: str, path: str) -> None:
    """Say that it runs, then hang."""
    touch(path)
    if mode == "c":
        hang_in_c()
    elif mode == "signals":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        hang()
    elif mode == "catches":
        while True:
            with contextlib.suppress(BaseException):
                hang()
    else:
        hang()


def throw_elsewhere() -> None:
    raise ElsewhereError(os.getpid())


def throw_local() -> None:
    class Local(Exception):
        pass

    raise Local("from a function")


def throw_group() -> None:
    raise ExceptionGroup("two", [ValueError(1), TwoArguments(3, "x")])


def throw_deep() -> int:
    return 1 + throw_deep()


def nested_list() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def fail_once(path: str, way: str) -> int:
    log(path, "try")
    tries = len(lines(path))
    if tries == 1:
        act(way)
    return tries
