"""A consumer waits for an end marker that the producer forgot to send: everybody waits for it."""

import subprocess
import sys

from treadle import queue, threading

parcels = queue.Queue()


def produce():
    for number in range(5):
        parcels.put(number)


def consume():
    while True:
        if parcels.get() is None:
            return


# Looks from inside of the session, which a child inherits.
LOOK = """
import os, sys, time
from treadle.diagnose import causes, picture, report
until, found = time.monotonic() + 20, []
while not found and time.monotonic() < until:
    seen = picture.take(os.getppid())
    found = causes.causes(seen)
print(report.first_line(seen, found), flush=True)
"""


if __name__ == "__main__":
    producer = threading.Thread(target=produce, name="producer")
    consumer = threading.Thread(target=consume, name="consumer")
    producer.start()
    consumer.start()
    producer.join()
    print("ready", flush=True)
    if "look" in sys.argv:
        subprocess.Popen([sys.executable, "-c", LOOK])
    consumer.join()
