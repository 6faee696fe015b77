"""A program at work: a pool, a queue to a child that is too slow, and a lock that three threads want."""

import sys
import time

import treadle
from treadle import multiprocessing, threading


def work(number):
    time.sleep(0.02)
    return number


def eat(parcels):
    while parcels.get() is not None:
        time.sleep(0.005)


def feed(parcels, over):
    while not over.is_set():
        parcels.put("parcel")


def want(vault, over):
    while not over.is_set():
        with vault:
            time.sleep(0.02)


if __name__ == "__main__":
    over = threading.Event()
    parcels = multiprocessing.Queue(10)
    eater = multiprocessing.Process(target=eat, args=(parcels,), name="eater")
    eater.start()
    vault = threading.Lock(name="vault")
    threads = [threading.Thread(target=want, args=(vault, over)) for _ in range(3)]
    threads.append(threading.Thread(target=feed, args=(parcels, over), name="feeder"))
    for thread in threads:
        thread.start()
    with treadle.Pool(workers=2, engine="processes") as pool:
        results = pool.map(work, iter(int, 1))
        next(results)
        threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
        print("ready", flush=True)
        for _ in results:
            if over.is_set():
                break
        results.close()
    for thread in threads:
        thread.join()
    parcels.put(None)
    eater.join()
