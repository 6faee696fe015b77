"""An event as traffic light: the main thread says when the cars may drive.

Watch for: the cars that come at red wait, all go on at green, and one that comes then need not stop.
"""

from treadle import threading

green = threading.Event()
at_the_light = threading.Semaphore(0)


def car(number: int) -> str:
    stopped = not green.is_set()
    at_the_light.release()
    green.wait()
    return f"car {number} stopped, and drove at green" if stopped else f"car {number} drove on"


def main() -> None:
    for first in (1, 4):
        green.clear()
        print("red")
        cars = [threading.Thread(target=car, args=(first + number,)) for number in range(3)]
        for thread in cars[:2]:
            thread.start()
            at_the_light.acquire()
        green.set()
        print("green")
        cars[2].start()
        at_the_light.acquire()
        for thread in cars:
            print(thread.result())


if __name__ == "__main__":
    main()
