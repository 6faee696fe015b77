"""What the tests of treadle.futures and treadle.joblib have processes do."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

state: list[Any] = []


def keep(value: Any) -> None:
    state.append(value)


def kept(_: Any = None) -> list[Any]:
    return state


def refuse() -> NoReturn:
    raise LookupError("not today")


def square(x: int) -> int:
    return x * x


def die_on_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave(code: int) -> NoReturn:
    sys.exit(code)


def say_and_sleep(path: Path, seconds: float) -> int:
    path.touch()
    time.sleep(seconds)
    return os.getpid()


def sleep_unless_first(x: int, started: str) -> int:
    """The first fails when another one has begun; the others take long."""
    if x:
        Path(started).touch()
        time.sleep(60)
        return x
    until = time.monotonic() + 20
    while not os.path.exists(started) and time.monotonic() < until:
        time.sleep(0.002)
    raise KeyError("first")


class Unloadable:
    """Can be pickled, and not be loaded."""

    def __reduce__(self) -> Any:
        return refuse, ()


def inner(n: int) -> int:
    with ThreadPoolExecutor(2) as executor:
        return sum(executor.map(square, range(n)))
