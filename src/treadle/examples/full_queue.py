"""A queue with room for two.

Watch for: put() waits while the queue is full, unless it is told not to, or not for long; then it raises Full.
"""

from treadle import queue, threading


def main() -> None:
    places: queue.Queue[int] = queue.Queue(maxsize=2)
    places.put(1)
    places.put(2)
    try:
        places.put(3, block=False)
    except queue.Full:
        print("3 does not fit, said at once")
    try:
        places.put(3, timeout=0.1)
    except queue.Full:
        print("3 does not fit, said after 0.1 s")

    waiting = threading.Thread(target=places.put, args=(3,))
    waiting.start()
    print("taken:", places.get())
    waiting.join()
    print("3 is in:", [places.get(), places.get()])


if __name__ == "__main__":
    main()
