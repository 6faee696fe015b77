"""Two producers and a consumer that would wait for ever: a shutdown of the queue ends it.

Watch for: the consumer eats what is left and then ends, without being told how many bones there will be.
"""

from treadle import queue, threading

bones: queue.Queue[str] = queue.Queue(4)


def producer(name: str) -> None:
    for number in range(5):
        bones.put(f"bone {number} of {name}")


def consumer() -> int:
    eaten = 0
    for bone in bones:  # as get() in a loop, until the queue is shut down and empty
        print(f"ate {bone}")
        eaten += 1
    return eaten


def main() -> None:
    eating = threading.Thread(target=consumer)
    eating.start()
    producers = [threading.Thread(target=producer, args=(name,)) for name in ("p1", "p2")]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    bones.shutdown()  # no more bones
    print(f"the consumer is done, it ate {eating.result()}")


if __name__ == "__main__":
    main()
