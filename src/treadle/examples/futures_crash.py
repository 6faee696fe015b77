"""The executors of `concurrent.futures`, on treadle: one worker is killed, one call fails, the rest go on.

The standard library's executor would be broken: every other call would fail too.

Watch for: only the call that was running fails, and the executor is as good as new.
"""

import os
import signal

from treadle.futures import Future, ProcessPoolExecutor, as_completed


def work(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def main() -> None:
    with ProcessPoolExecutor(2) as executor:
        numbers: dict[Future[int], int] = {executor.submit(work, number): number for number in range(6)}
        good = []
        for future in as_completed(numbers):
            error = future.exception()
            if error is None:
                good.append(future.result())
            else:
                print(f"{numbers[future]} failed: {type(error).__name__}: {error}")
        print("the others:", sorted(good))
        print("and on it goes:", list(executor.map(work, range(3))))


if __name__ == "__main__":
    main()
