"""Two processes, two locks, taken in opposite orders: neither can ever go on.

The locks are taken by a bare acquire(), which somebody else might release, so treadle warns and goes on waiting.
"""

import sys
import warnings

from treadle import multiprocessing
from treadle.errors import DeadlockWarning


def move(first, second, barrier):
    """Take the first account's lock, and when the other process has its own, the second's."""
    first.acquire()
    barrier.wait()
    second.acquire()


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeadlockWarning)
    checking, savings = multiprocessing.Lock(name="checking"), multiprocessing.Lock(name="savings")
    barrier = multiprocessing.Barrier(2)
    clerk = multiprocessing.Process(target=move, args=(savings, checking, barrier), name="clerk")
    clerk.start()
    print("ready", flush=True)
    move(checking, savings, barrier)
    sys.exit("no deadlock after all")
