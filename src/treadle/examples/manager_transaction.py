"""Several changes at once: a process is killed half way through moving money from one account to another.

Watch for: the sum of both accounts is 100 throughout, also after the kill.
"""

import os
import signal

from treadle import multiprocessing
from treadle.shared import DictProxy


def move(accounts: DictProxy, amount: int, stop_half_way: bool) -> None:
    with accounts.transaction():
        accounts["left"] -= amount
        if stop_half_way:
            os.kill(os.getpid(), signal.SIGKILL)
        accounts["right"] += amount


def main() -> None:
    with multiprocessing.Manager() as manager:
        accounts = manager.dict(left=100, right=0)
        for stop_half_way in (False, True, False):
            process = multiprocessing.Process(target=move, args=(accounts, 30, stop_half_way))
            process.start()
            process.join()
            print("killed," if process.exitcode else "moved,", accounts, "sum:", sum(accounts.values()))
        try:
            with accounts.transaction():
                accounts["left"] -= 1000
                if accounts["left"] < 0:
                    raise ValueError("not enough money")
        except ValueError as error:
            print(f"{error}, so nothing has changed:", accounts)


if __name__ == "__main__":
    main()
