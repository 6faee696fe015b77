"""A pool of processes: many calls, few processes.

Watch for: twenty squares from two processes.
"""

import os

from treadle import multiprocessing


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def main() -> None:
    with multiprocessing.Pool(2) as pool:
        results = pool.map(square, range(20), chunksize=1)
    print(*(value for value, _ in results))
    print("processes:", "one or two" if len({pid for _, pid in results}) <= 2 else "more")


if __name__ == "__main__":
    main()
