"""Calls that go to an idle worker directly, which is killed at a named point of the core: what their futures say.

    python direct_points.py POINT ...

Needs a build with TREADLE_POINTS=1.  Prints a line for each: the point, and what became of the call.
"""

from __future__ import annotations

import os
import sys

import treadle
from treadle.errors import WorkerDied


def arm(point: str) -> int:
    os.environ["TREADLE_KILL_AT"] = point
    return 7


def fate(pool: treadle.Pool, point: str, waits: bool) -> str:
    for i in range(3):
        assert pool.submit(abs, -i).result() == i
        assert pool.submit(arm, "").result() == 7
    future = pool.submit(arm, point)
    error = None if waits else future.exception(60)  # which looks in the ordinary way
    try:
        value = future.result(60)
        assert value == 7 and error is None
        return "returned"
    except WorkerDied as died:
        assert error in (None, died)
        return "blamed"


def main(points: list[str]) -> None:
    with treadle.Pool(1, "processes") as pool:
        for point in points:
            print(point, fate(pool, point, True), fate(pool, point, False), flush=True)
            assert pool.submit(abs, -5).result() == 5


if __name__ == "__main__":
    import direct_points  # workers are to find these functions by name

    direct_points.main(sys.argv[1:])
