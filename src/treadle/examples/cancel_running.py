"""Cancelling a call that runs already ends it, in whatever C code it is; nothing else is lost.

treadle examples run cancel_running
"""

from __future__ import annotations

import time

import treadle


def main() -> None:
    """One that would take hours, and one that waits behind it."""
    with treadle.Pool(1, "processes") as pool:
        endless = pool.submit(sum, range(10**13))
        behind = pool.submit(pow, 2, 10)
        while not endless.running():
            time.sleep(0.01)
        print("cancelled:", endless.cancel())
        print("behind it:", behind.result())


if __name__ == "__main__":
    main()
