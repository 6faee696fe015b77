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
        task = treadle.failure(result)  # what is known of a failed task; None for a result
        print(result if task is None else f"{result}, {task.attempts} attempts")


if __name__ == "__main__":
    main()
