"""The pool on a real Dask cluster: a scheduler and three workers, processes of their own, over TCP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cluster_work as cluster
import contract_work as work
import pytest

import treadle
import treadle.engines
import treadle.pool.warm
from treadle.pool import station

pytest.importorskip("distributed", reason="treadle[dask] is not installed")
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(60)]


@pytest.fixture
def dask(dask_cluster: cluster.DaskCluster) -> cluster.DaskCluster:
    """The cluster of all tests that leave it as it is."""
    return dask_cluster


def test_everything_that_a_pool_does(dask: cluster.DaskCluster, tmp_path: Path) -> None:
    with treadle.Pool(engine="dask", address=dask.address) as pool:
        assert "dask" in repr(pool) and "workers=3" in repr(pool)
        assert pool.submit(work.square, 7).result(30) == 49
        assert pool.submit(lambda x, *, y: (x, y), 1, y=2).result(30) == (1, 2)

        # The same as on this machine, in the same order, and the same errors.
        here = list(treadle.map(cluster.mixed, range(1500), engine="processes", workers=2, on_error="return"))
        there = list(pool.map(cluster.mixed, range(1500), on_error="return"))
        assert [repr(x) for x in there] == [repr(x) for x in here]
        assert sorted(pool.map(work.square, range(300), ordered=False)) == [x * x for x in range(300)]

        # An error has its item and its traceback.
        with pytest.raises(ValueError, match="bad item") as raised:
            pool.submit(work.fail, 3).result(30)
        assert "in fail" in str(raised.value.__cause__) and raised.value.task.item == 3

        # Retries and back-off; time-outs and crashes cost one item.
        path = str(tmp_path / "calls")
        assert pool.options(retries=2, backoff=0.01).submit(work.fail_times, path, 2).result(30) == 3
        with pytest.raises(treadle.TaskTimeout):
            pool.options(timeout=0.3).submit(time.sleep, 30).result(30)
        crashed = list(pool.map(cluster.crash_at_five, range(40), on_error="return"))
        assert isinstance(crashed[5], treadle.WorkerDied) and crashed[5].signal == signal.SIGKILL
        assert [x for x in crashed if x != crashed[5]] == [x for x in range(40) if x != 5]
        with pytest.raises(treadle.MemoryLimitExceeded):
            pool.options(memory_limit=50 << 20).submit(bytearray, 200 << 20).result(30)

        # Cancelling what runs, and what waits behind it.
        first = [pool.submit(work.gate, str(tmp_path / f"s{n}"), str(tmp_path / "go"), n) for n in range(3)]
        for n in range(3):
            work.until(tmp_path / f"s{n}")
        behind = pool.submit(work.logged, path + "2", 1)
        assert behind.cancel() and first[0].cancel()
        work.touch(tmp_path / "go")
        assert [future.result(30) for future in first[1:]] == [1, 2]
        assert work.lines(path + "2") == []

        # Large arguments and results.
        data = b"x" * (3 << 20)
        assert pool.submit(work.echo, data).result(30) == ((data,), {})
        assert list(pool.map(lambda x, data=data: len(data) + x, range(20))) == [len(data) + x for x in range(20)]

        with pytest.raises(treadle.Unsupported, match="stream"):
            pool.map(range, [3], stream=True)
        assert pool.stats().failed > 0


def test_a_call_that_is_cancelled_at_once(dask: cluster.DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word of it overtakes the call on the way to the worker, where that is in this process."""
    monkeypatch.setattr("treadle.pool.clusters.dask.ambient", lambda: None)
    with treadle.Pool(1, engine="dask") as pool:
        for n in range(10):
            unwanted = pool.submit(time.sleep, 100)
            cluster.until(unwanted.running)
            assert unwanted.cancel()
            assert pool.submit(work.square, n).result(15) == n * n


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_what_is_large(dask: cluster.DaskCluster) -> None:
    with treadle.Pool(1, engine="dask", address=dask.address) as pool:
        assert pool.submit(len, bytes(20 << 20)).result(30) == 20 << 20


def test_a_map_runs_where_the_programs_client_is_now(dask: cluster.DaskCluster, tmp_path: Path) -> None:
    """Not where the map before it has left a warm pool."""
    import distributed

    treadle.pool.warm.close()
    try:
        with cluster.dask_cluster(tmp_path, 1) as other:
            for there in (other, dask):
                with distributed.Client(there.address):
                    parts = set(treadle.map(part, range(20), engine="dask", workers=1))
                assert parts <= {each.mark for each in there.workers}
    finally:
        treadle.pool.warm.close()


def part(_: int) -> str | None:
    """Of which cluster is this process?"""
    return os.environ.get(cluster.MARK)


@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_that_goes_before_the_pool_is_no_news(processes: bool, tmp_path: Path) -> None:
    """As where a program closes its own, and what a map has left is kept warm for another one."""
    program = tmp_path / "program.py"
    program.write_text(
        "import treadle, distributed\n"
        "if __name__ == '__main__':\n"
        "    for _ in range(2):\n"
        "        with distributed.LocalCluster(\n"
        f"            n_workers=1, threads_per_worker=1, processes={processes}, dashboard_address=None\n"
        "        ) as cluster, distributed.Client(cluster):\n"
        "            print(sum(treadle.map(abs, range(50), engine='dask')))\n"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}  # Dask leaves a folder there
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, env=environ)
    lines = [line for line in done.stderr.splitlines() if "distributed.client" in line or "Traceback" in line]
    assert (done.returncode, done.stdout.split(), lines) == (0, ["1225"] * 2, []), done.stderr


def test_an_initializer_and_a_client(dask: cluster.DaskCluster) -> None:
    import distributed

    with distributed.Client(dask.address, set_as_default=False) as client:
        with treadle.Pool(2, engine="dask", address=client, initializer=prepare, initargs=(5,)) as pool:
            assert set(pool.map(prepared, range(50))) == {5}
        assert client.submit(work.square, 3).result(30) == 9  # it is still its user's


state: list[int] = []


def prepare(x: int) -> None:
    sys.modules["treadle"].prepared = x  # type: ignore[attr-defined]


def prepared(_: int) -> int:
    return sys.modules["treadle"].prepared  # type: ignore[attr-defined,no-any-return]


def test_a_long_task_does_not_hold_up_those_behind_it(dask: cluster.DaskCluster, tmp_path: Path) -> None:
    with treadle.Pool(2, engine="dask", address=dask.address) as pool:
        assert list(pool.map(work.square, range(500))) == [x * x for x in range(500)]  # so stocks are large
        long = pool.submit(work.gate, str(tmp_path / "started"), str(tmp_path / "go"))
        short = [pool.submit(work.square, x) for x in range(200)]
        assert [future.result(15) for future in short] == [x * x for x in range(200)]
        assert not long.done()
        work.touch(tmp_path / "go")
        long.result(30)


def test_workers_killed_in_the_middle(tmp_path: Path) -> None:
    with cluster.dask_cluster(tmp_path) as dask:
        with treadle.Pool(engine="dask", address=dask.address) as pool:
            results = pool.map(cluster.brief, range(2000), retries=3)
            got = [next(results) for _ in range(200)]
            dask.workers[0].kill()
            got += [next(results) for _ in range(500)]
            dask.workers[1].kill()
            dask.add_worker()
            got += results
            assert got == [3 * x for x in range(2000)]
            # Without retries the calls that were there fail, each with a word of what happened, and no others.
            dask.workers.append(dask.add_worker())
            results = pool.map(cluster.brief, range(1000), on_error="return")
            got = [next(results) for _ in range(100)]
            dask.workers[2].kill()
            got += results
            lost = [x for x in got if isinstance(x, treadle.WorkerDied)]
            assert 1 <= len(lost) <= 200
            assert all(got[n] == 3 * n or got[n] in lost for n in range(1000))


def test_a_scheduler_that_goes_away(tmp_path: Path) -> None:
    with cluster.dask_cluster(tmp_path, 1) as dask:
        with treadle.Pool(engine="dask", address=dask.address) as pool:
            running = pool.submit(time.sleep, 60)
            queued = [pool.submit(work.square, x) for x in range(20)]
            cluster.until(running.running)
            dask.scheduler.kill()
            for future in [running, *queued]:
                with pytest.raises(treadle.ClusterLost, match="scheduler"):
                    future.result(20)
            with pytest.raises(treadle.ClusterLost):
                pool.submit(work.square, 1).result(20)


def test_nobody_there(dask: cluster.DaskCluster) -> None:
    begin = time.monotonic()
    with pytest.raises(treadle.ClusterLost, match=r"127\.0\.0\.1:1"):
        treadle.Pool(engine=treadle.engines.DaskEngine("tcp://127.0.0.1:1", connect_timeout=1))
    assert time.monotonic() - begin < 15


def test_without_an_address_it_is_the_programs_own_client(dask: cluster.DaskCluster) -> None:
    with treadle.Pool(engine="dask") as pool:  # the fixture has one
        assert "workers=3" in repr(pool)
        assert pool.submit(os.getenv, cluster.MARK).result(30) in [part.mark for part in dask.workers]


def test_a_cluster_of_its_own(dask: cluster.DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treadle.pool.clusters.dask.ambient", lambda: None)
    assert list(treadle.map(work.square, range(200), engine="dask", workers=2)) == [x * x for x in range(200)]
    treadle.pool.warm.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("treadle-station")]


OWN_CLUSTER = """
import treadle
def square(x):
    return x * x
def tell(future):
    print(round(future.result()))
if __name__ == "__main__":
    {use}
"""
USES = {
    "map": "print(sum(treadle.map(square, range(5), engine='dask', workers=2)))",
    "submit": "pool = treadle.Pool(2, engine='dask'); print(pool.submit(square, 5).result() + 5)",
    "not waited for": "pool = treadle.Pool(2, engine='dask'); pool.submit(square, 30 ** 0.5).add_done_callback(tell)",
}


@pytest.mark.parametrize("use", USES)
def test_nobody_has_to_close_a_cluster_of_its_own(use: str, tmp_path: Path) -> None:
    """Nothing is left, and nothing is said of it."""
    script = tmp_path / "script.py"
    script.write_text(OWN_CLUSTER.format(use=USES[use]))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "30\n", "")
    assert os.listdir(tmp_path) == ["script.py"]


PROGRAM = """
import sys, treadle, contract_work as work
pool = treadle.Pool(2, engine="dask", address=sys.argv[1])
pool.submit(work.gate, *sys.argv[2:]).result()
"""


def test_what_a_killed_program_was_running_ends_with_it(dask: cluster.DaskCluster, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, dask.address, str(tmp_path / "started"), str(tmp_path / "never")]
    with subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": str(cluster.HERE)}) as child:
        work.until(tmp_path / "started")
        assert dask.left()
        child.kill()
    # At once, as Dask tells; if the program died between two exchanges, with its lease.
    cluster.until(lambda: not dask.left(), station.LEASE_SECONDS + 10)
    assert not (tmp_path / "never").exists()


def test_a_station_that_was_thought_forgotten(dask: cluster.DaskCluster, tmp_path: Path) -> None:
    """Its pool did not come for too long, and comes: what it had is lost, and said to be; nothing hangs."""
    with treadle.Pool(1, engine="dask", address=dask.address) as pool:
        assert pool.submit(work.square, 3).result(30) == 9
        engine = pool.driver.engine.guest  # type: ignore[attr-defined]
        running = pool.submit(work.gate, str(tmp_path / "started"), str(tmp_path / "go"))
        work.until(tmp_path / "started")
        (seat,) = engine.seats.values()
        engine.tell(seat, forget, engine.token)
        assert isinstance(running.exception(30), treadle.WorkerDied)
        assert pool.submit(work.square, 4).result(30) == 16


def forget(token: str) -> None:
    """In a worker of Dask's: as if nobody had come for too long."""
    for key in [key for key in station._stations if key[0] == token]:
        station._stations.pop(key).close()


def test_what_was_put_to_the_cluster_is_lost_with_a_worker(tmp_path: Path) -> None:
    """It is put there again."""
    with cluster.dask_cluster(tmp_path, 2) as dask, treadle.Pool(2, engine="dask", address=dask.address) as pool:
        data = b"x" * (3 << 20)
        results = pool.map(lambda x, data=data: len(data) + x, range(400), retries=3)
        assert next(results) == len(data)
        dask.workers[0].kill()
        assert list(results) == [len(data) + x for x in range(1, 400)]
        dask.workers.append(dask.add_worker())
        assert list(pool.map(cluster.size, [data] * 40, range(40))) == [len(data) + x for x in range(40)]
        dask.workers[1].kill()
        assert list(pool.map(cluster.size, [data] * 40, range(40), retries=3)) == [len(data) + x for x in range(40)]
