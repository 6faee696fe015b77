"""A hundred items on five processes, with a callback for each, and without `close()` and `join()` at the end.

Watch for: "end" comes first, a hundred callbacks after it, all in the main program, though nothing waits for them.

The standard library needs both lines, for its workers are killed where the program reaches its end, whatever they still
have to do.  Here the work of the pools is finished first.  The lines may stay; they are not needed.
"""

import atexit
import os

from treadle.multiprocessing import Pool

received: list[tuple[int, int]] = []


def work(number: int) -> tuple[int, int]:
    return number, os.getpid()


def callback(result: tuple[int, int]) -> None:
    received.append(result)  # this is the main program: a worker could not reach this list
    print(f"callback {result[0]}, from another process: {result[1] != os.getpid()}")


def last_words() -> None:
    print(f"{len(received)} callbacks; five processes at most: {len({pid for _, pid in received}) <= 5}")


def main() -> None:
    pool = Pool(5)
    for number in range(100):
        pool.apply_async(func=work, args=(number,), callback=callback)
    print("end")


if __name__ == "__main__":
    atexit.register(last_words)
    main()
