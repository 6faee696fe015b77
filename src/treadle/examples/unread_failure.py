"""A task fails, and the program never asks for its result: the error is logged all the same.

Watch for: the error of the future that was dropped is told, that of the one that was looked at is not.
"""

import logging
import sys

import treadle


def fail(number: int) -> None:
    raise ValueError(f"number {number} failed")


def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="logged: %(message)s")
    with treadle.Pool(workers=1, engine="threads") as pool:
        seen = pool.submit(fail, 1)
        print("looked at:", seen.exception())
        pool.submit(fail, 2)  # and nobody keeps the future


if __name__ == "__main__":
    main()
