"""Wait for the first of several things: a queue, an event, a thread.

Watch for: one wait for all three, which says what is ready; with a time-out, it may be nothing.
"""

import time

import treadle
from treadle import queue, threading

letters: queue.Queue[str] = queue.Queue()
bell = threading.Event()
go = threading.Event()


def day() -> None:
    go.wait()
    letters.put("a letter")
    time.sleep(0.1)
    bell.set()
    time.sleep(0.1)


def main() -> None:
    thread = threading.Thread(target=day)
    thread.start()
    names = {letters: "the queue has an item", bell: "the event is set", thread: "the thread is over"}
    print("so far:", treadle.wait(*names, timeout=0.1))
    go.set()
    while names:
        for thing in treadle.wait(*names):
            print(names.pop(thing))


if __name__ == "__main__":
    main()
