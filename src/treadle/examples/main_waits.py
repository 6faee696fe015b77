"""The main thread is done first, and the program still waits for its threads.

Watch for: "end" comes before the task, which goes on although the main thread is over.
"""

from treadle import threading


def run(number: int) -> None:
    threading.main_thread().join()
    print(f"task {number}: the main thread is alive: {threading.main_thread().is_alive()}")


def main() -> None:
    threading.Thread(target=run, args=(1,)).start()
    print("end")


if __name__ == "__main__":
    main()
