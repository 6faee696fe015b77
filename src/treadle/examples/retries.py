"""A task that fails now and then is tried again.

Watch for: every item fails at its first attempt, one fails every time, and the error counts the attempts.
"""

import treadle

attempts: dict[int, int] = {}


def flaky(number: int) -> str:
    attempts[number] = attempts.get(number, 0) + 1
    if attempts[number] == 1 or number == 2:
        raise ConnectionError(f"no answer from {number}")
    return f"item {number} came at attempt {attempts[number]}"


def main() -> None:
    for result in treadle.map(flaky, range(4), engine="threads", retries=2, on_error="return"):
        if isinstance(result, Exception):
            print(f"{result}, {result.task.attempts} attempts")
        else:
            print(result)


if __name__ == "__main__":
    main()
