"""Two threads, each with a function to run, its arguments, and a name.

Watch for: a thread that was given no name has one all the same; each task ran in its own thread.
"""

from treadle import threading


def run(task: str) -> str:
    return f"{task} ran in {threading.current_thread().name}"


def main() -> None:
    first = threading.Thread(target=run, args=("t1",))
    second = threading.Thread(target=run, args=("t2",), name="second")
    first.start()
    second.start()
    print(f"started: {first.name} and {second.name}")  # getName() is the old spelling
    print(first.result())  # waits for its end; join() does too
    print(second.result())


if __name__ == "__main__":
    main()
