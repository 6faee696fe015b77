"""kill -9 at each named point on a task's way through a lane or the store: in the worker, and in the program."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from point_build import points
from scripts import program

HERE = Path(__file__).parent
pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]

LANE = points("memory/lane.c", "transport/port_object.c", "values/store_object.c")
CELLS = [f"ring.cell.{step}" for step in ("extent", "punched", "claimed", "written", "read", "releasing")]
# Memory is made or given up where there is none that fits, so those come first.
IN_WORKERS = [*CELLS, "ring.loan.lent", *LANE]
IN_PROGRAMS = [*CELLS, "ring.loan.lent", *(point for point in LANE if point.startswith(("lane", "store")))]
IN_PROGRAMS = [point for point in IN_PROGRAMS if point not in ("lane.started", "lane.passed")]  # those run tasks
# A task that may be tried again has its arguments copied, so nothing of them is taken, lent or released.
TRIED_AGAIN = [p for p in IN_WORKERS if p not in ("store.taken", "ring.loan.lent", "ring.cell.releasing")]

# What the task has come to that is blamed for its worker's end.
NOBODY, NOT_CALLED, RETURNED = "nobody", "not called", "returned"
BLAMED = {
    "lane.started": NOT_CALLED,
    "lane.taken": NOT_CALLED,
    "store.taken": NOT_CALLED,
    "ring.cell.read": NOT_CALLED,
    "ring.loan.lent": NOT_CALLED,
    "lane.put.written": RETURNED,
    "port.result.written": RETURNED,
    "store.written": RETURNED,
    "ring.cell.claimed": RETURNED,
    "ring.cell.extent": RETURNED,
    "ring.cell.punched": RETURNED,
    "ring.cell.written": RETURNED,
    "ring.cell.releasing": RETURNED,
    "lane.published": NOBODY,
    "lane.passed": NOBODY,
    "port.result.published": NOBODY,
    "port.resting": NOBODY,
}


def as_expected(point: str, fate: str, blamed: str) -> bool:
    # It may be the room of a part of an argument, whose task has not been started.
    return fate == f"ok {blamed}" or (point == "lane.taken" and fate == f"ok {NOBODY}")


def kill_workers(core: Path, folder: Path, retries: int, nth: int, names: list[str]) -> dict[str, str]:
    """What became of each of the points."""
    environ = {**os.environ, "PYTHONPATH": f"{core}{os.pathsep}{HERE}", "TMPDIR": str(folder)}
    environ.pop("TREADLE_BOARD", None)
    command = [sys.executable, str(HERE / "pool_points.py"), str(retries), *(f"{name}:{nth}" for name in names)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return {name.partition(":")[0]: what for name, _, what in lines}


@pytest.fixture(scope="module")
def fates(with_points: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of one pool whose workers were killed at all points, one after the other."""
    return kill_workers(with_points, tmp_path_factory.mktemp("fates"), 0, 1, IN_WORKERS)


def test_every_point_is_known() -> None:
    assert set(IN_WORKERS) == set(BLAMED), "a new point: say what it is to cost"


@pytest.mark.parametrize("point", IN_WORKERS)
def test_a_worker_killed_there(fates: dict[str, str], point: str) -> None:
    """Exactly the task that it ran fails, in time and by name; each other one is run once, and gives what it should."""
    assert as_expected(point, fates[point], BLAMED[point]), fates[point]


def test_a_worker_killed_amid_a_direct_call(with_points: Path) -> None:
    """Whoever waits for it hears of it; a value that was published is there."""
    environ = {**os.environ, "PYTHONPATH": f"{with_points}{os.pathsep}{HERE}"}
    environ.pop("TREADLE_BOARD", None)
    blamed = ("lane.put.written", "port.result.written")
    returned = ("lane.published", "port.result.published")
    command = [sys.executable, str(HERE / "direct_points.py"), *blamed, *returned]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = [f"{point} blamed blamed" for point in blamed] + [f"{point} returned returned" for point in returned]
    assert done.stdout.splitlines() == expected


def test_nothing_of_the_killed_is_left(fates: dict[str, str]) -> None:
    assert fates["memory"] == "ok"


@pytest.mark.heavy
@pytest.mark.parametrize(("retries", "nth"), [(0, 5), (1, 1)])
def test_workers_killed_there_once_more(with_points: Path, tmp_path: Path, retries: int, nth: int) -> None:
    names = TRIED_AGAIN if retries else IN_WORKERS
    fates = kill_workers(with_points, tmp_path, retries, nth, names)
    assert fates.pop("memory") == "ok"
    assert set(fates) == set(names)
    for name, fate in fates.items():
        blamed = BLAMED[name]
        if retries:  # one whose function had not been called was called once
            blamed = NOBODY if blamed == NOT_CALLED else "tried again" if blamed == RETURNED else blamed
        assert as_expected(name, fate, blamed), f"{name}: {fate}"


@pytest.mark.heavy
def test_killed_amid_releases_no_memory_is_kept(with_points: Path, tmp_path: Path) -> None:
    """Each has released its memory as far as the count goes, and those who bury it release it again."""
    fates = kill_workers(with_points, tmp_path, 0, 1, ["ring.cell.releasing"] * 40)
    assert fates == {"ring.cell.releasing": "ok returned", "memory": "ok"}


PROGRAM = """
import collections, itertools, os, pool_points
from treadle import Pool

with Pool(2, engine="processes") as pool:
    for turn in itertools.count():
        if turn == 30:
            os.environ["TREADLE_KILL_AT"] = {point!r}
            print("armed", flush=True)
        futures = [pool.submit(pool_points.echo, turn + i, pool_points.body(turn + i)) for i in range(10)]
        for future in futures:
            future.exception(20)
"""


def test_a_program_killed_there(with_points: Path, tmp_path: Path) -> None:
    """Its workers end with it, and with them all memory."""

    def kill(point: str) -> str:
        path = f"{with_points}{os.pathsep}{HERE}"
        with program(PROGRAM.format(point=point), tmp_path, PYTHONPATH=path) as started:
            code = started.wait(60)
            assert (code, started.out) == (-9, "armed\n"), f"{point}: {code}, {started.out}, {started.err}"
            started.assert_gone()
        return point

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(kill, IN_PROGRAMS)) == IN_PROGRAMS
