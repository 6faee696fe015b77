"""The main program waits for its tasks, without a close() and a join() to remember.

Watch for: "end" is printed first and the tasks after it, for the end of the with block waits until all are done.
"""

import treadle
from treadle import threading

go = threading.Event()


def run(number: int) -> None:
    go.wait()
    print(f"task {number}", flush=True)


def main() -> None:
    with treadle.Pool(workers=3, engine="threads") as pool:
        for number in range(3):
            pool.submit(run, number)
        print("end", flush=True)
        go.set()
    print("now all are done")


if __name__ == "__main__":
    main()
