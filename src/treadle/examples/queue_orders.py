"""Three queues: first in first out, last in first out, and smallest first.

Watch for: all three get the same words in the same order, and hand them out in three.
"""

from treadle import queue


def main() -> None:
    for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
        words: queue.Queue[tuple[int, str]] = kind()
        for item in [(3, "treadle"), (1, "warp"), (2, "loom")]:
            words.put(item)
        print(f"{kind.__name__}:", *(words.get()[1] for _ in range(3)))


if __name__ == "__main__":
    main()
