"""Join each thread after its start, or start all of them and then join all.

Watch for: the first way is serial, so five tasks take five times as long; the second way they overlap.
"""

import time

from treadle import threading


def work() -> None:
    time.sleep(0.15)


def one_by_one(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
        thread.join()


def all_at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    for way in (one_by_one, all_at_once):
        began = time.monotonic()
        way([threading.Thread(target=work) for _ in range(5)])
        print(f"{way.__name__}: {time.monotonic() - began:.1f} s")
    print("end")


if __name__ == "__main__":
    main()
