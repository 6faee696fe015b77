"""What the contract's tasks do: importable, so that every executor can run it in a process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NoReturn

MakeExecutor = Callable[..., Executor]

DEADLINE = 20.0  # seconds after which a task that waits for its test gives up


def until(path: str | Path, deadline: float = DEADLINE) -> None:
    """Wait until the file exists; the test creates it.  Raises TimeoutError."""
    end = time.monotonic() + deadline
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.002)


def touch(path: str | Path) -> None:
    """Create the file."""
    with open(path, "x"):
        pass


def gate(started: str, go: str, value: Any = None) -> Any:
    """Say that it runs, and go on when told to."""
    touch(started)
    until(go)
    return value


def after(go: str, value: Any) -> Any:
    """Return the value when told to."""
    until(go)
    return value


def square(x: int) -> int:
    return x * x


def add(x: int, y: int) -> int:
    return x + y


def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def nothing() -> None:
    return None


def log(path: str, text: str) -> None:
    """Append one line; a line is short enough to be written whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, (text + "\n").encode())
    finally:
        os.close(fd)


def lines(path: str | Path) -> list[str]:
    """What was logged."""
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


def logged(path: str, x: int) -> int:
    log(path, str(x))
    return x


class Special(Exception):
    """An exception with a shape of its own."""

    def __init__(self, one: int, two: str) -> None:
        super().__init__(one, two)
        self.one = one
        self.two = two


class Uncatchable(BaseException):
    """Not an Exception."""


def fail(x: Any = None) -> NoReturn:
    raise ValueError("bad item", x)


def fail_at(bad: int, x: int) -> int:
    if x == bad:
        raise ValueError("bad item", x)
    return x


def fail_on_three(x: int) -> int:
    return fail_at(3, x)


def raise_(error: BaseException) -> NoReturn:
    raise error


def special(x: int) -> NoReturn:
    raise Special(x, "two")


def uncatchable() -> NoReturn:
    raise Uncatchable("not an Exception")


def chained() -> NoReturn:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise RuntimeError("the effect") from error


def fail_times(path: str, times: int) -> int:
    """Fail on its first so many calls; return how many calls there were."""
    log(path, "x")
    calls = len(lines(path))
    if calls <= times:
        raise ConnectionError(f"call {calls}")
    return calls


def nested(n: int) -> int:
    """A map inside of a task."""
    import treadle

    return sum(treadle.map(square, range(n), engine="threads", workers=2))


def nested_processes(n: int) -> int:
    """A map on processes inside of a task."""
    import treadle

    return sum(treadle.map(square, range(n), engine="processes", workers=2))
