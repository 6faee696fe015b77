"""A pool of five processes that calls one function after the other: `apply` waits for each.

Watch for: ten calls, in order, and never two at once, so that four of the five processes have nothing to do.
"""

import os

from treadle.multiprocessing import Pool


def work(number: int) -> tuple[int, int]:
    return number, os.getpid()


def main() -> None:
    with Pool(5) as pool:
        for number in range(10):
            done, pid = pool.apply(func=work, args=(number,))
            print(f"hello world {done}, from another process: {pid != os.getpid()}")


if __name__ == "__main__":
    main()
