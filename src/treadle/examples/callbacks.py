"""A hundred items on five processes, with a callback for each result.

Watch for: the workers have other pids than the main program; the callbacks all run in the main program.
"""

import os
from concurrent.futures import Future

import treadle


def work(number: int) -> tuple[int, int]:
    return os.getpid(), number * number


def main() -> None:
    pids, squares = set(), []

    def callback(future: Future[tuple[int, int]]) -> None:
        pid, square = future.result()
        pids.add(pid)
        squares.append((os.getpid(), square))

    with treadle.Pool(workers=5, engine="processes") as pool:
        for number in range(100):
            pool.submit(work, number).add_done_callback(callback)

    print(f"{len(squares)} callbacks, the sum of the squares is {sum(square for _, square in squares)}")
    print(f"all callbacks ran in the main program: {all(pid == os.getpid() for pid, _ in squares)}")
    print(f"some task ran in the main program: {os.getpid() in pids}")


if __name__ == "__main__":
    main()
