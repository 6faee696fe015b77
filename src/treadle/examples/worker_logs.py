"""Worker processes log, warn and print: it all comes out in the program, whole and once.

Watch for: the records go through the program's own handler; the warning of four workers is shown once.
"""

import logging
import sys
import warnings

import treadle


def work(number: int) -> int:
    logging.getLogger("shop").info("item %d is packed", number)
    warnings.warn("the tape runs out", stacklevel=1)
    for piece in ("printed ", "in ", "pieces"):
        print(piece, end="")
    print(f" by item {number}")
    return number


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="the program's handler: %(name)s: %(message)s")
    logging.captureWarnings(True)
    with treadle.Pool(workers=4, engine="processes") as pool:
        print(sum(pool.map(work, range(8))), "is the sum")


if __name__ == "__main__":
    main()
