"""Fifty threads, started in a loop, run all at once.

Watch for: each waits until all fifty are there, and none waits in vain.
"""

from treadle import threading

THREADS = 50
all_there = threading.Barrier(THREADS)


def run(name: str) -> None:
    if all_there.wait() == 0:  # each gets another number, so one of them reports
        print(f"{name} and {THREADS - 1} others run at the same time")


def main() -> None:
    for number in range(THREADS):
        threading.Thread(target=run, args=(f"t-{number}",)).start()


if __name__ == "__main__":
    main()
