"""What the calls of test_pool_faces.py do: importable, because the standard library needs that."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time

from contract_work import touch, until

_started_with: list[object] = []


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def fail(x):
    raise ValueError(x)


def fail_on(x, bad):
    if x == bad:
        raise ValueError(x)
    return x


def fail_on_five(x):
    return fail_on(x, 5)


def stop_iteration(x):
    if x == 3:
        raise StopIteration
    return x


def die(x=None):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def die_on_five(x):
    if x == 5:
        die()
    return x


def mark(path):
    touch(path)
    return path


def gate(started, go):
    touch(started)
    until(go)
    return "through"


def lock(x=None):
    return threading.Lock()


class NoPickle:
    def __reduce__(self):
        raise RuntimeError("cannot pickle")


def begin(*args):
    _started_with.append(args)


def began(x=None):
    return _started_with


def who(x=None):
    process = multiprocessing.current_process()
    return os.getpid(), process.name, process._identity


def broken_source(good):
    yield from range(good)
    raise KeyError("source")


def slow_source(go):
    yield 1
    until(go)
    yield 2


def forever():
    return itertools.count()


def until_and_back(path):
    until(path)
    return "back"


def slow_at_the_end(x):
    if x >= 1996:
        time.sleep(0.2)
    return os.getpid()
