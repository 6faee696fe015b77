"""A producer process and a consumer process with a queue between them.

Watch for: every bone is eaten, in order, and the consumer ends when the producer shuts the queue down.
"""

from treadle import multiprocessing, queue


def producer(bones: multiprocessing.Queue[int]) -> None:
    for bone in range(10):
        bones.put(bone)  # it is in the queue now: to end right after it loses nothing
    bones.shutdown()


def consumer(bones: multiprocessing.Queue[int]) -> list[int]:
    eaten = []
    try:
        while True:
            eaten.append(bones.get())
    except queue.ShutDown:
        return eaten


def main() -> None:
    bones: multiprocessing.Queue[int] = multiprocessing.Queue(4)
    making = multiprocessing.Process(target=producer, args=(bones,))
    eating = multiprocessing.Process(target=consumer, args=(bones,))
    making.start()
    eating.start()
    making.join()
    print("eaten:", *eating.result())


if __name__ == "__main__":
    main()
