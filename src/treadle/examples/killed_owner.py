"""A process is killed while it holds a lock.

Watch for: the next one gets the lock at once, with a warning; with the standard library it would wait for ever.
"""

import time
import warnings

from treadle import LockRecoveredWarning, multiprocessing


def hold(lock: multiprocessing.Lock, has_it: multiprocessing.Event) -> None:
    with lock:
        has_it.set()
        time.sleep(60)


def main() -> None:
    lock = multiprocessing.Lock()
    has_it = multiprocessing.Event()
    owner = multiprocessing.Process(target=hold, args=(lock, has_it))
    owner.start()
    has_it.wait()
    print("the lock is held by the other process:", not lock.acquire(block=False))
    owner.kill()
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with lock:
            print(f"got it {time.monotonic() - start:.1f} s after the owner was killed")
    print("warned:", any(issubclass(warning.category, LockRecoveredWarning) for warning in caught))
    owner.join()


if __name__ == "__main__":
    main()
