"""Two tasks at the same time, in two threads.

Watch for: the tasks wait two seconds each, and together they still take two seconds.
"""

import time

import treadle


def run(name: str) -> str:
    time.sleep(2)
    return f"task {name} is done"


def main() -> None:
    began = time.monotonic()
    with treadle.Pool(workers=2, engine="threads") as pool:
        first = pool.submit(run, "t1")
        second = pool.submit(run, "t2")
        print(first.result())
        print(second.result())
    print(f"both took {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
