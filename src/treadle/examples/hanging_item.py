"""An item that never ends is stopped by its timeout.

Watch for: item 3 would run for ever; after one second it is killed, and only it fails.
"""

import treadle


def work(number: int) -> int:
    while number == 3:
        pass
    return number


def main() -> None:
    for outcome in treadle.map(work, range(6), engine="processes", timeout=1).outcomes():
        if outcome.ok:
            print(f"item {outcome.item} is fine")
        else:
            print(f"item {outcome.item} failed: {type(outcome.error).__name__}: {outcome.error}")


if __name__ == "__main__":
    main()
