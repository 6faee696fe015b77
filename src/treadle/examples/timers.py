"""A timer calls a function later, unless it is cancelled before.

Watch for: the first greeting comes after 0.2 s, the second one never.
"""

import time

from treadle import threading


def greet(whom: str) -> str:
    print(f"hello, {whom}")
    return whom


def main() -> None:
    began = time.monotonic()
    world = threading.Timer(0.2, greet, ["world"])
    moon = threading.Timer(60, greet, ["moon"])
    world.start()
    moon.start()
    moon.cancel()
    print(f"{world.result()} was greeted after {time.monotonic() - began:.1f} s")
    print(f"{moon.result()} was greeted after the cancel")


if __name__ == "__main__":
    main()
