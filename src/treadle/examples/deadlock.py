"""Two threads take two locks in opposite order: a deadlock that explains itself.

Watch for: one of them gets an error that tells who holds what and waits for what, and where; the other goes on.
"""

import treadle
from treadle import threading

warp, weft = threading.Lock(name="warp"), threading.Lock(name="weft")
each_holds_one = threading.Barrier(2)


def weave(first: threading.Lock, second: threading.Lock) -> None:
    with first:
        each_holds_one.wait()
        try:
            with second:
                print(f"\n{threading.current_thread().name} got both locks")
        except treadle.DeadlockError as error:
            print(error)


def main() -> None:
    weavers = [
        threading.Thread(target=weave, args=(warp, weft), name="left"),
        threading.Thread(target=weave, args=(weft, warp), name="right"),
    ]
    for thread in weavers:
        thread.start()
    for thread in weavers:
        thread.join()


if __name__ == "__main__":
    main()
