"""What a thread returned, or raised, is kept for whoever asks.

Watch for: result() hands over the value, and raises in the main thread what the other thread raised.
"""

from treadle import threading


def parse(text: str) -> int:
    return int(text)


def main() -> None:
    # By default, the exception is printed too when it ends the thread.
    threading.excepthook = lambda _: None  # type: ignore[attr-defined]
    threads = [threading.Thread(target=parse, args=(text,)) for text in ("42", "forty-two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        try:
            print("result:", thread.result())
        except ValueError as error:
            print("raised:", error)
    print("kept:", [type(thread.exception()).__name__ for thread in threads])


if __name__ == "__main__":
    main()
