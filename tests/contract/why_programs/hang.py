"""One item of a map sends its worker into C code that does not come back; the program waits for its result."""

import ctypes

import treadle


def square(number):
    if number == 3:
        print("ready", flush=True)
        hang_in_c()
    return number * number


def hang_in_c():
    """Sleep in C, with Python's lock held: no signal handler runs, no other thread of the process does."""
    ctypes.PyDLL(None).sleep(600)


if __name__ == "__main__":
    with treadle.Pool(workers=2, engine="processes") as pool:
        print(list(pool.map(square, range(8))))
