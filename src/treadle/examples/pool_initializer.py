"""Each process of a pool prepares itself once: it opens what all its calls need.

Watch for: a hundred calls, but no more tables than there are processes.
"""

import os

from treadle.multiprocessing import Pool

table: dict[int, int] = {}  # each process has its own


def prepare(size: int) -> None:
    global table
    table = {number: number * number for number in range(size)}


def look_up(number: int) -> tuple[int, int]:
    return table[number], os.getpid()


def main() -> None:
    with Pool(2, initializer=prepare, initargs=(100,)) as pool:
        found = pool.map(look_up, range(100))
    print(f"the sum of the squares is {sum(square for square, _ in found)}")
    print(f"tables: {'one or two' if len({pid for _, pid in found}) in (1, 2) else 'too many'}")
    print(f"and in the main program: {table}")


if __name__ == "__main__":
    main()
