"""Eight megabytes of numbers, shared by four processes without a copy.

Watch for: each process changes its quarter in place, and what is sent to it is a few hundred bytes.
"""

import array
import pickle

import treadle
from treadle import multiprocessing
from treadle.shared.buffers import SharedBuffer

SIZE = 1_000_000


def double(numbers: SharedBuffer, start: int, stop: int) -> None:
    for i in range(start, stop, 1000):
        numbers[i] *= 2


def main() -> None:
    numbers = treadle.share(array.array("d", [1.0]) * SIZE)  # a numpy array would do, and stay one
    print("bytes shared:", numbers.nbytes, "- sent:", "less than 1000" if len(pickle.dumps(numbers)) < 1000 else "all")
    quarter = SIZE // 4
    processes = [
        multiprocessing.Process(target=double, args=(numbers, i * quarter, (i + 1) * quarter)) for i in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print("doubled:", sum(numbers) - SIZE)


if __name__ == "__main__":
    main()
