"""Join with a time-out: wait for a thread, but not for ever.

Watch for: join() comes back after its time-out and says nothing; is_alive() tells whether the thread has ended.
"""

from treadle import threading

go = threading.Event()


def main() -> None:
    thread = threading.Thread(target=go.wait)
    thread.start()
    thread.join(0.1)
    print(f"after join(0.1) it is still running: {thread.is_alive()}")
    go.set()
    thread.join()
    print(f"after join() it is still running: {thread.is_alive()}")


if __name__ == "__main__":
    main()
