"""An input without an end.

Watch for: results come at once, and only a few more items are taken from the input than were asked for.
"""

import itertools
from collections.abc import Iterator

import treadle

taken = 0


def numbers() -> Iterator[int]:
    global taken
    for number in itertools.count(1):
        taken += 1
        yield number


def square(number: int) -> int:
    return number * number


def main() -> None:
    with treadle.map(square, numbers(), engine="threads", workers=4, buffer=16) as results:
        print(*itertools.islice(results, 10))
    print(f"asked for 10, taken from the input at most 30: {taken <= 30}")


if __name__ == "__main__":
    main()
