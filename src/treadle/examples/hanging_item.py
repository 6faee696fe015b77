"""An item that never ends is stopped by its timeout.

Watch for: item 3 would run for ever; after one second it is killed, and only it fails.
"""

import treadle


def work(number: int) -> int:
    while number == 3:
        pass
    return number


def main() -> None:
    for result in treadle.map(work, range(6), engine="processes", timeout=1, on_error="return"):
        if isinstance(result, treadle.TaskTimeout):
            print(f"item {result.task.item} failed: {result}")
        else:
            print(f"item {result} is fine")


if __name__ == "__main__":
    main()
