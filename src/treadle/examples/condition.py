"""A condition: a thread waits until something is true that others make true.

Watch for: the guest is woken for every dish, looks, and waits on until there are three.
"""

import time

from treadle import threading

served = threading.Condition()
dishes: list[str] = []


def enough() -> bool:
    print(f"the guest sees {len(dishes)}")
    return len(dishes) >= 3


def guest() -> None:
    with served:
        served.wait_for(enough)
        print("the guest eats", *dishes)


def main() -> None:
    thread = threading.Thread(target=guest)
    thread.start()
    for dish in ("soup", "bread", "cheese"):
        time.sleep(0.05)  # cooking
        with served:
            dishes.append(dish)
            served.notify()
    thread.join()


if __name__ == "__main__":
    main()
