"""A worker process is killed in the middle of a task.

Watch for: only the item that ran in it fails, at once, and the error names the signal; the pool goes on.
"""

import os
import signal

import treadle


def work(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    return number


def main() -> None:
    for outcome in treadle.map(work, range(20), engine="processes", workers=2).outcomes():
        if outcome.ok:
            print(f"item {outcome.item} is fine")
        else:
            print(f"item {outcome.item} failed: {type(outcome.error).__name__}: {outcome.error}")


if __name__ == "__main__":
    main()
