"""A class of threads: what its method run() does is what they do.

Watch for: start() calls run() in a new thread, and what run() returns is the thread's result.
"""

from treadle import threading


class Squares(threading.Thread):
    def __init__(self, count: int) -> None:
        super().__init__(name=f"squares-{count}")
        self.count = count

    def run(self) -> list[int]:  # type: ignore[override]  # the standard library's returns nothing
        return [number * number for number in range(self.count)]


def main() -> None:
    threads = [Squares(5), Squares(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        print(thread.name, thread.result())


if __name__ == "__main__":
    main()
