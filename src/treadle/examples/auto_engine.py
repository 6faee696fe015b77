"""Threads for waiting, processes for computing: treadle measures the first items and chooses.

Watch for: the two decisions, and the reasons given for them.
"""

import time

import treadle


def waits(number: int) -> int:
    time.sleep(0.02)
    return number


def computes(number: int) -> int:
    return sum(step * step for step in range(300_000 + number))


def main() -> None:
    for function in (waits, computes):
        results = treadle.map(function, range(40))
        total = sum(results)
        print(f"{function.__name__}: {results.decision}")
        print(f"  the sum is {total}")


if __name__ == "__main__":
    main()
