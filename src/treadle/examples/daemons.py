"""Daemon threads: the program does not wait for them.

Watch for: ten threads would run for ever, and "end" is the last line all the same.
"""

from treadle import threading

never = threading.Event()


def run(number: int) -> None:
    never.wait()
    print(f"nobody sees the result of {number}")


def main() -> None:
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(10)]
    for thread in threads:
        thread.start()
    print(f"{sum(thread.is_alive() for thread in threads)} daemons are running")
    print("end")


if __name__ == "__main__":
    main()
