"""A worker of a `multiprocessing.Pool` is killed, as by a machine that is out of memory.

Watch for: the one call that it was running fails at once and says why; the others don't notice.
"""

import os
import signal

from treadle.errors import WorkerDied
from treadle.multiprocessing import Pool


def work(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def main() -> None:
    with Pool(2) as pool:
        results = [pool.apply_async(work, (number,)) for number in range(10)]
        for number, result in enumerate(results):
            try:
                print(f"{number}: {result.get()}")
            except WorkerDied as error:
                print(f"{number}: killed by {error.signal.name if error.signal else 'nobody'}")


if __name__ == "__main__":
    main()
