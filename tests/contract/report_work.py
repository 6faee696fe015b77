"""What the tests of `inside` have workers say."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from typing import Any

logger = logging.getLogger("treadle_tests.work")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")

    def __str__(self) -> str:
        return "an object"


class OddWarning(UserWarning):
    pass


def log(count: int = 1) -> int:
    for i in range(count):
        logger.info("number %d of %s", i, "many", extra={"i": i, "odd": Unpicklable()})
    return count


def log_odd() -> None:
    logger.warning("with %s", Unpicklable())
    logger.warning(Unpicklable())
    logger.warning("with a lot: %s", "x" * 300_000)


def log_error() -> None:
    try:
        raise KeyError("inner")
    except KeyError:
        logger.exception("it went wrong")


def log_levels() -> list[bool]:
    logging.getLogger("treadle_tests.quiet").error("never")
    logger.debug("never")
    return [
        logging.getLogger("treadle_tests.quiet").isEnabledFor(logging.ERROR),
        logger.isEnabledFor(logging.DEBUG),
        logger.isEnabledFor(logging.INFO),
    ]


def log_from_threads(threads: int, each: int) -> None:
    def body(name: int) -> None:
        for i in range(each):
            logger.info("%d:%d:%s", name, i, "y" * (i * 97 % 9000))

    running = [threading.Thread(target=body, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def log_in_fork() -> None:
    pid = os.fork()
    if pid == 0:
        logger.info("from a child")
        os._exit(0)
    os.waitpid(pid, 0)


def log_and_die(count: int) -> None:
    for i in range(count):
        logger.info("before the end %d", i)
    os.kill(os.getpid(), 9)


def warn(text: str = "careful") -> int:
    warnings.warn(text, OddWarning, stacklevel=1)
    return os.getpid()


def warn_caught() -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("caught", stacklevel=1)
    return len(caught)


def warn_of_wsgi() -> tuple[bool, str]:
    """Was its module loaded before, and what becomes of a warning of it?"""
    loaded = "wsgiref.validate" in sys.modules
    from wsgiref.validate import WSGIWarning

    try:
        warnings.warn("strange", WSGIWarning, stacklevel=1)
    except WSGIWarning as error:
        return loaded, str(error)
    return loaded, ""


def thread_error() -> None:
    def body() -> None:
        raise LookupError("in a thread of a task")

    thread = threading.Thread(target=body, name="helper")
    thread.start()
    thread.join()


class _Bad:
    def __del__(self) -> None:
        raise LookupError("in a finalizer")


def unraisable() -> None:
    _Bad()


def chatter(worker: int, lines: int) -> None:
    for i in range(lines):
        print(f"<{worker}", end="")
        print(f":{i}", end=" ", flush=True)
        print("z" * ((i * 37) % 6000), end=">\n", file=sys.stdout if i % 2 else sys.stderr)
        if i % 2 == 0:
            print(">")


def dot() -> None:
    print(".", end="", flush=True)


def parts_and_die(path: str) -> None:
    print("a whole line")
    print("the beginning", end="", flush=True)
    open(path, "w").close()
    time.sleep(60)


def say_bytes() -> tuple[Any, ...]:
    out = sys.stdout
    out.buffer.write(b"bytes\n")
    with contextlib.redirect_stdout(io.StringIO()) as caught:
        print("redirected")
    out.write("\r10%")
    out.flush()
    out.write("\r20%\n")
    return caught.getvalue(), out.fileno(), out.encoding, out.isatty(), out.buffer.raw.fileno(), out.writable()


def draw(_: int) -> tuple[int, list[float], float | None]:
    time.sleep(0.02)  # so that both workers get some
    numpy = sys.modules.get("numpy")
    return os.getpid(), [random.random()], float(numpy.random.rand()) if numpy is not None else None


def native_variables() -> dict[str, str | None]:
    from treadle.pool.inside.native import VARIABLES

    return {name: os.environ.get(name) for name in VARIABLES}


def begin_lines(how: str, size: int) -> None:
    """Print parts of lines, as two threads and on both streams, and end the process."""
    print("whole")
    for _ in range(size // 1000):
        print("o" * 1000, end="", flush=True)
    print("e" * 10, end="", file=sys.stderr)
    other = threading.Thread(target=lambda: print("t" * 10, end="", flush=True))
    other.start()
    other.join()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "leaves":
        os._exit(3)
    if how == "hangs":
        time.sleep(60)
