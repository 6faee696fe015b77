"""Of the calls that wait, the one with the highest priority is next; a retry waits without occupying a worker.

treadle examples run urgent_first
"""

from __future__ import annotations

import threading

import treadle

done: list[str] = []
attempts = 0


def flaky() -> str:
    """Fails twice."""
    global attempts
    attempts += 1
    if attempts < 3:
        raise ConnectionError("not yet")
    return f"connected at attempt {attempts}"


def main() -> None:
    """One worker, so that they queue."""
    door = threading.Event()
    with treadle.Pool(1, "threads") as pool:
        pool.submit(door.wait)
        for name, priority in [("whenever", -1), ("soon", 0), ("now", 10), ("soon too", 0)]:
            pool.options(priority=priority).submit(done.append, name)
        door.set()
        patient = pool.options(retries=5, backoff=0.1, retry_on=OSError)
        print(patient.submit(flaky).result())
    print(", ".join(done))


if __name__ == "__main__":
    main()
