"""A process is killed while it holds a lock, in the middle of a piece of work that others wait for."""

import os
import signal

from treadle import multiprocessing


def work(ledger, booked):
    with ledger:
        os.kill(os.getpid(), signal.SIGKILL)  # the out-of-memory killer, perhaps
    booked.set()


def audit(ledger, booked):
    with ledger:
        pass
    print("ready", flush=True)
    booked.wait()


if __name__ == "__main__":
    ledger, booked = multiprocessing.Lock(name="ledger"), multiprocessing.Event()
    worker = multiprocessing.Process(target=work, args=(ledger, booked), name="worker")
    worker.start()
    worker.join()
    audit(ledger, booked)
