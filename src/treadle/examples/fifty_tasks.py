"""Fifty tasks, without fifty starts and fifty joins.

Watch for: one line runs them all, and the results come in the order of the input, whichever task is ready first.
"""

import random
import time

import treadle


def run(number: int) -> str:
    time.sleep(random.uniform(0.0, 0.2))
    return f"t-{number}"


def main() -> None:
    began = time.monotonic()
    names = list(treadle.map(run, range(50), engine="threads", workers=50))
    print(*names)
    print(f"{len(names)} tasks took {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
