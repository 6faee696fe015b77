"""Ten threads count a number down: without a lock, and with one.

Watch for: without the lock several see the same number, and steps are lost; with it, none is.
"""

import contextlib
import time

from treadle import threading

number = 0


def step(lock: contextlib.AbstractContextManager[object]) -> None:
    global number
    with lock:
        seen = number
        time.sleep(0.02)  # some work
        number = seen - 1


def count_down(lock: contextlib.AbstractContextManager[object]) -> int:
    global number
    number = 10
    threads = [threading.Thread(target=step, args=(lock,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number


def main() -> None:
    print(f"without a lock, steps were lost: {count_down(contextlib.nullcontext()) > 0}")
    print(f"with a lock, 10 - 10 = {count_down(threading.Lock(name='number'))}")


if __name__ == "__main__":
    main()
