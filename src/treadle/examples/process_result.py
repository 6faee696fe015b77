"""What became of a process: its value, its exception, or what killed it.

Watch for: the sum that the first returned, the error that the second raised, the signal that ended the third.
"""

import os
import signal

from treadle import ProcessDied
from treadle.multiprocessing import Process


def divide(a: int, b: int) -> float:
    return a / b  # a process that fails prints its traceback, too


def vanish() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does when there is no memory left


def main() -> None:
    processes = [Process(target=sum, args=([1, 2, 3],)), Process(target=divide, args=(1, 0)), Process(target=vanish)]
    for process in processes:
        process.start()
    print("the sum is", processes[0].result())
    try:
        processes[1].result()
    except ZeroDivisionError as error:
        print("the division failed:", error)
    try:
        processes[2].result()
    except ProcessDied as error:
        print("the third was killed:", error.signal.name if error.signal else error)


if __name__ == "__main__":
    main()
