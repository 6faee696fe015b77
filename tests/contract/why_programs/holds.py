"""A child holds a lock, and its parent waits for that; nothing is wrong until somebody stops the child."""

import time

from treadle import multiprocessing


def hold(vault, taken):
    with vault:
        taken.set()
        while True:
            time.sleep(1)


if __name__ == "__main__":
    vault, taken = multiprocessing.Lock(name="vault"), multiprocessing.Event()
    keeper = multiprocessing.Process(target=hold, args=(vault, taken), name="keeper", daemon=True)
    keeper.start()
    taken.wait()
    print("ready", flush=True)
    print(keeper.pid, flush=True)
    with vault:
        pass
