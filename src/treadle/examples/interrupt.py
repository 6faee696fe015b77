"""A thread is interrupted: while it waits, and while it computes.

Watch for: neither would ever end by itself, and both get to clean up.
"""

from treadle import queue, threading

nothing: queue.Queue[str] = queue.Queue()


def wait(running: threading.Event) -> None:
    try:
        running.set()
        nothing.get()
    finally:
        print("the waiting one cleans up")


def compute(running: threading.Event) -> None:
    try:
        running.set()
        while True:
            pass
    finally:
        print("the computing one cleans up")


def main() -> None:
    for target in (wait, compute):
        running = threading.Event()
        thread = threading.Thread(target=target, args=(running,))
        thread.start()
        running.wait()
        thread.interrupt()
        print(f"{target.__name__} ended by {type(thread.exception()).__name__}")


if __name__ == "__main__":
    main()
