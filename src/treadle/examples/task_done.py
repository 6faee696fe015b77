"""Wait until everything that was put into a queue has been dealt with.

Watch for: an empty queue is not yet a finished one; join() waits for a task_done() for each item.
"""

import time

from treadle import queue, threading

letters: queue.Queue[str] = queue.Queue()


def read() -> None:
    for letter in letters:  # ends at shutdown()
        time.sleep(0.05)
        print(f"read {letter}, the queue is empty: {letters.empty()}")
        letters.task_done()


def main() -> None:
    for letter in "abc":
        letters.put(letter)
    reader = threading.Thread(target=read)
    reader.start()
    letters.join()
    print(f"all letters are read; unfinished: {letters.unfinished_tasks}")
    letters.shutdown()


if __name__ == "__main__":
    main()
