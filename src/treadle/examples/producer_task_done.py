"""A producer that waits until a consumer has eaten what it made.

Watch for: the producer is held up by a full queue, and at the end by the bones that are not eaten yet.
"""

import time

from treadle import queue, threading

bones: queue.Queue[int] = queue.Queue(4)
eaten: list[int] = []


def producer() -> None:
    for bone in range(10):
        print(f"made bone {bone}")
        bones.put(bone)  # waits while four are in the queue
    print("made all bones")
    bones.join()
    print("all bones are eaten:", *eaten)


def consumer() -> None:
    while True:
        bone = bones.get()
        time.sleep(0.02)
        eaten.append(bone)
        bones.task_done()


def main() -> None:
    threading.Thread(target=consumer, daemon=True).start()  # waits for more bones until the program ends
    making = threading.Thread(target=producer)
    making.start()
    making.join()


if __name__ == "__main__":
    main()
