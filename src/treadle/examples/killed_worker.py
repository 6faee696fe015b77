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
    results = treadle.map(work, range(20), engine="processes", workers=2, on_error="return")
    for result in results:
        if isinstance(result, treadle.WorkerDied):
            print(f"item {result.task.item} failed, signal {result.signal.name}: {result}")
        else:
            print(f"item {result} is fine")


if __name__ == "__main__":
    main()
