"""Many readers at once, or one writer.

Watch for: three readers are inside together, and no writer; then a writer is, and no reader.
"""

from treadle import threading

account = threading.RWLock(name="account")
all_inside = threading.Barrier(4)
leave = threading.Event()


def read() -> None:
    with account.read:
        all_inside.wait()
        leave.wait()


def try_to_read() -> bool:
    return account.acquire_read(blocking=False)


def main() -> None:
    for _ in range(3):
        threading.Thread(target=read).start()
    all_inside.wait()
    print("three readers are inside, a writer gets in:", account.acquire_write(timeout=0.1))
    leave.set()
    with account.write:  # waits until they have left
        late = threading.Thread(target=try_to_read)
        late.start()
        print("a writer is inside, a reader gets in:", late.result())


if __name__ == "__main__":
    main()
