"""A room for three: a semaphore lets in that many threads at once, and no more.

Watch for: ten guests share three chairs, and none finds all chairs taken; one release() too many is an error.
"""

import time

from treadle import queue, threading

room = threading.BoundedSemaphore(3)
chairs: queue.Queue[str] = queue.Queue()


def guest(number: int) -> str:
    with room:
        chair = chairs.get(block=False)  # would raise Empty if a fourth guest were in the room
        time.sleep(0.05)
        chairs.put(chair)
        return f"guest {number} sat on {chair}"


def main() -> None:
    chairs.put_many(["chair A", "chair B", "chair C"])
    guests = [threading.Thread(target=guest, args=(number,)) for number in range(10)]
    for thread in guests:
        thread.start()
    for thread in guests:
        print(thread.result())
    try:
        room.release()
    except ValueError as error:
        print(f"ValueError: {error}")


if __name__ == "__main__":
    main()
