"""Lambdas and closures run in other processes too.

Watch for: neither function has a name that a worker could import, and both work.
"""

from collections.abc import Callable

import treadle


def multiplier(factor: int) -> Callable[[int], int]:
    def multiply(number: int) -> int:
        return number * factor

    return multiply


def main() -> None:
    print(*treadle.map(lambda number: number + 1, range(10), engine="processes"))
    print(*treadle.map(multiplier(3), range(10), engine="processes"))


if __name__ == "__main__":
    main()
