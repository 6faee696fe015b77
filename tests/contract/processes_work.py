"""What the process tests run in children: importable, because the standard library needs that."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time


def add(a, b=0):
    return a + b


def fail(text):
    raise ValueError(text)


def leave(code):
    sys.exit(code)


def hard_exit(code):
    os._exit(code)


def kill_self(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def tell(conn, *args):
    me = multiprocessing.current_process()
    conn.send((me.name, me.daemon, os.getpid(), multiprocessing.parent_process().pid, args))
    conn.close()


def ready_then_wait(conn):
    conn.send("ready")
    time.sleep(60)


def interrupted(conn):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        conn.send("ready")
        time.sleep(60)
    except KeyboardInterrupt:
        conn.send("interrupted")


def count(conn):
    """Send numbers for as long as somebody wants them."""
    number = 0
    while True:
        conn.send(number)
        conn.recv()
        number += 1


def start_child_and_report(conn, method, ours):
    context = (treadle_processes() if ours else multiprocessing).get_context(method)
    child = context.Process(target=tell, args=(conn, "grandchild"))
    child.start()
    child.join()


def treadle_processes():
    from treadle import multiprocessing as treadle_multiprocessing

    return treadle_multiprocessing


class Two(Exception):
    """Refuses to be rebuilt from its args."""

    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


def raise_two():
    raise Two(1, 2)


def big(n):
    return b"x" * n


def a_generator():
    return (i for i in range(3))


def environment(name):
    return os.environ.get(name)
