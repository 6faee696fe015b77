"""Processes: started, named, and waited for.

Watch for: three processes of their own, each with its number, and the end only after all of them.
"""

import os

from treadle import multiprocessing


def work(number: int, program: int) -> str:
    name = multiprocessing.current_process().name
    return f"task {number} runs in {name}, a process of its own: {os.getpid() != program}"


def main() -> None:
    me = os.getpid()
    processes = [multiprocessing.Process(target=work, args=(number, me), name=f"p{number}") for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        print(process.result())  # waits for its end, and raises what it raised
    print("end:", *(f"{process.name} exited with {process.exitcode}" for process in processes), sep="\n  ")


if __name__ == "__main__":
    main()
