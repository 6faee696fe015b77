"""A producer and several consumers, with no queue to fill, drain, or shut down.

Watch for: the producer is never more than a few bones ahead, however fast it could be.
"""

import time
from collections.abc import Iterator

import treadle

produced = 0


def producer() -> Iterator[int]:
    global produced
    for bone in range(20):
        produced += 1
        yield bone


def consumer(bone: int) -> str:
    time.sleep(0.02)
    return f"ate bone {bone}"


def main() -> None:
    ahead = []
    for eaten, line in enumerate(treadle.map(consumer, producer(), engine="threads", workers=2, buffer=4)):
        print(line)
        ahead.append(produced - eaten)
    print(f"{produced} bones, never more than {max(ahead)} waiting")


if __name__ == "__main__":
    main()
