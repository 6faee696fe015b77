"""Ten processes change the same dict and the same list.

Watch for: all ten entries of both are there, and the count is exact, though there is no lock in this program.
"""

from collections.abc import Callable

from treadle import multiprocessing
from treadle.shared import DictProxy, ListProxy


def work(number: int, squares: DictProxy, names: ListProxy) -> None:
    squares[number] = number**2
    names.append(f"process {number}")
    for _ in range(100):
        squares.update_value("count", lambda count: count + 1, default=0)


def start(target: Callable[..., None], *args: object) -> multiprocessing.Process:
    process = multiprocessing.Process(target=target, args=args)
    process.start()
    return process


def main() -> None:
    with multiprocessing.Manager() as manager:
        squares, names = manager.dict(), manager.list()
        for process in [start(work, number, squares, names) for number in range(10)]:
            process.join()
        print("count:", squares.pop("count"))
        print("dict:", sorted(squares.items()))
        print("list:", sorted(names))


if __name__ == "__main__":
    main()
