"""A process can be suspended, resumed and interrupted.

Watch for: it counts, stands still, counts again, and cleans up when it is interrupted.
"""

import time
from multiprocessing.connection import Connection

from treadle import multiprocessing


def count(conn: Connection) -> int:
    number = 0
    try:
        while True:
            conn.send(number)
            number += 1
            time.sleep(0.01)
    except KeyboardInterrupt:
        return number


def main() -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=count, args=(there,))
    process.start()
    print("it counts:", here.recv() == 0)
    process.suspend()
    while here.poll(0.1):  # what it had sent before
        here.recv()
    print("it stands still:", not here.poll(0.2))
    process.resume()
    print("it counts again:", here.recv() > 0)
    process.interrupt()
    print("it cleaned up:", process.result() > 0)


if __name__ == "__main__":
    main()
