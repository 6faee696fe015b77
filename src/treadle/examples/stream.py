"""A generator function in a pool: what it yields arrives as it goes, and it never runs far ahead of its reader.

treadle examples run stream
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import treadle


def multiples(number: int) -> Iterator[int]:
    """Endless: only what is asked for, and a little more, is ever made."""
    multiple = number
    while True:
        yield multiple
        multiple += number


def main() -> None:
    """The first of many, from two processes."""
    with treadle.Pool(2, "processes") as pool:
        values = pool.map(multiples, [7], stream=True)
        print(*islice(values, 10))
        values.close()  # ends the generator, wherever it is
        mixed = pool.map(multiples, [1, 1000], stream=True, ordered=False)
        seen = list(islice(mixed, 500))
        mixed.close()
        print("both were read:", any(value % 1000 for value in seen) and max(seen) > 1000)


if __name__ == "__main__":
    main()
