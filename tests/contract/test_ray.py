"""The pool on a real Ray cluster: a head and nodes, processes of their own, over TCP.

What every engine does is in the tests that take `pools` or `engine`; this is what only Ray has.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cluster_work as cluster
import contract_work as work
import pytest

import treadle
import treadle.engines

pytest.importorskip("ray", reason="treadle[ray] is not installed")
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(120)]


def test_everything_that_a_pool_does(ray_cluster: cluster.RayCluster) -> None:
    with treadle.Pool(engine="ray", address=ray_cluster.address) as pool:
        assert repr(pool) == "<treadle.Pool ray: asked for, workers=3>"
        # The same as on this machine, in the same order, and the same errors.
        here = list(treadle.map(cluster.mixed, range(1500), engine="processes", workers=2, on_error="return"))
        there = list(pool.map(cluster.mixed, range(1500), on_error="return"))
        assert [repr(x) for x in there] == [repr(x) for x in here]
        # Crashes and memory cost one item.
        crashed = list(pool.map(cluster.crash_at_five, range(40), on_error="return"))
        assert isinstance(crashed[5], treadle.WorkerDied) and crashed[5].signal == signal.SIGKILL
        assert [x for x in crashed if x != crashed[5]] == [x for x in range(40) if x != 5]
        with pytest.raises(treadle.MemoryLimitExceeded):
            pool.options(memory_limit=50 << 20).submit(bytearray, 200 << 20).result(30)
        # What is large travels once.
        data = b"x" * (3 << 20)
        assert pool.submit(work.echo, data).result(30) == ((data,), {})
        assert list(pool.map(lambda x, data=data: len(data) + x, range(20))) == [len(data) + x for x in range(20)]
        with pytest.raises(treadle.Unsupported, match="stream"):
            pool.map(range, [3], stream=True)


def test_resources_are_passed_through(ray_cluster: cluster.RayCluster) -> None:
    """Also when the pool's own idle workers have all that there is."""
    with treadle.Pool(engine="ray", address=ray_cluster.address) as pool:
        assert list(pool.map(work.square, range(300))) == [x * x for x in range(300)]
        # Each of them has an actor, and so they have all CPUs.
        cluster.until(lambda: sum(worker.state == "idle" for worker in pool.stats().workers) == 3)
        assert pool.options(num_cpus=0.5).submit(work.square, 3).result(30) == 9
        assert pool.options(num_cpus=2).submit(work.square, 4).result(60) == 16
        both = [pool.options(num_cpus=(0.5, 1)[n % 2]).submit(work.square, n) for n in range(6)]
        assert [future.result(60) for future in both] == [n * n for n in range(6)]
        with pytest.raises(ValueError, match="num_cpus"):
            pool.options(num_cpus=1.5)  # Ray gives parts of one CPU only
    with treadle.Pool(1, engine=treadle.engines.RayEngine(num_cpus=0)) as pool:
        assert given_out(pool, memory=100 << 20, num_cpus=0.5) == {"CPU": 0.5, "memory": 100 << 20}


def given_out(pool: treadle.Pool, **how: float) -> dict[str, float]:
    """What Ray has taken off what there is, for such a task."""
    import ray

    def taken() -> dict[str, float]:
        there, left = ray.cluster_resources(), ray.available_resources()
        return {name: there[name] - left.get(name, 0) for name in ("CPU", "memory")}

    cluster.until(lambda: not any(taken().values()))
    assert pool.options(**how).submit(work.square, 2).result(60) == 4
    cluster.until(lambda: all(taken().values()))
    return taken()


def test_no_room_is_said_and_ends(ray_cluster: cluster.RayCluster) -> None:
    with treadle.Pool(1, engine="ray", start_timeout=3) as pool:
        assert pool.submit(work.square, 2).result(60) == 4
        needy = pool.options(num_gpus=1).submit(work.square, 3)
        with pytest.raises(treadle.ClusterLost, match=r"no room for an actor with num_cpus=1, num_gpus=1 for 3 s"):
            needy.result(30)
        assert pool.submit(work.square, 3).result(60) == 9


def test_two_pools_share_the_connection(ray_cluster: cluster.RayCluster) -> None:
    with treadle.Pool(1, engine="ray") as one, treadle.Pool(1, engine="ray", address="auto") as two:
        assert one.submit(work.square, 2).result(60) == two.submit(work.square, -2).result(60) == 4
    with pytest.raises(treadle.Unsupported, match="connected to the Ray cluster at") as refused:
        treadle.Pool(engine="ray", address="127.0.0.1:1")
    assert refused.value.option == "address"


PROGRAM = """
import os, signal, sys, threading, time
import treadle, treadle.engines, cluster_work, contract_work as work

def say(what):
    print(what, flush=True)

def killed():
    with treadle.Pool(engine=treadle.engines.RayEngine(sys.argv[2])) as pool:
        results = pool.map(cluster_work.brief, range(2000), retries=3)
        got = [next(results) for _ in range(200)]
        say("kill an actor")
        os.kill(next(worker.pid for worker in pool.stats().workers if worker.pid), signal.SIGKILL)
        got += [next(results) for _ in range(400)]
        say("kill a node")
        sys.stdin.readline()
        got += results
        assert got == [3 * x for x in range(2000)]
        # Without retries those that were there fail, and no others.
        results = pool.map(cluster_work.brief, range(1000), on_error="return")
        got = [next(results) for _ in range(100)]
        os.kill(next(worker.pid for worker in pool.stats().workers if worker.pid), signal.SIGKILL)
        got += results
        lost = [x for x in got if isinstance(x, treadle.WorkerDied)]
        assert 1 <= len(lost) <= 200, len(lost)
        assert all(got[n] == 3 * n or got[n] in lost for n in range(1000))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("treadle-ray")]
    say("done")

def headless():
    engine = treadle.engines.RayEngine(sys.argv[2], head_timeout=3)
    with treadle.Pool(engine=engine) as pool:
        running = pool.submit(time.sleep, 120)
        queued = [pool.submit(work.square, x) for x in range(20)]
        cluster_work.until(running.running)
        say("kill the head")
        sys.stdin.readline()
        begin = time.monotonic()
        for future in [running, *queued]:
            error = future.exception(20)
            assert isinstance(error, treadle.ClusterLost) and "head" in str(error), repr(error)
        error = pool.submit(work.square, 1).exception(20)
        assert isinstance(error, treadle.ClusterLost), error
        assert time.monotonic() - begin < 12, time.monotonic() - begin
    # Ray would end this program a minute after the head has gone.
    import ray
    assert not ray.is_initialized()
    say("done")

{"killed": killed, "headless": headless}[sys.argv[1]]()
"""


def converse(program: Path, what: str, address: str, answers: dict[str, object]) -> None:
    """Run the program, which says what is to be done to its cluster, and goes on when it is done."""
    environ = {**os.environ, **cluster.RAY_ENVIRONMENT, "PYTHONPATH": str(cluster.HERE)}
    with subprocess.Popen(
        [sys.executable, str(program), what, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environ,
    ) as child:  # fmt: skip
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        said = []
        try:
            for line in child.stdout:
                said.append(line.strip())
                do = answers.get(said[-1])
                if callable(do):
                    do()
                    child.stdin.write("\n")
                    child.stdin.flush()
            child.wait(30)
        finally:
            child.kill()
        assert said[-1:] == ["done"] and child.returncode == 0, (said, child.stderr.read())


def test_workers_a_node_and_the_head_killed_in_the_middle(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with cluster.ray_cluster(tmp_path, (1, 1)) as made:
        converse(program, "killed", made.address, {"kill a node": made.nodes[0].kill})
        converse(program, "headless", made.address, {"kill the head": made.head.kill})


def test_nobody_there(tmp_path: Path) -> None:
    """In a program of its own: this one may be connected."""
    program = (
        "import treadle, treadle.engines, time\nbegin = time.monotonic()\n"
        "try:\n    treadle.Pool(engine=treadle.engines.RayEngine('127.0.0.1:1', connect_timeout=1))\n"
        "except treadle.ClusterLost as error:\n    print(error, time.monotonic() - begin < 15)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("no Ray cluster answers at 127.0.0.1:1: ") and done.stdout.endswith("True\n"), done


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """With a Ray of its own."""
    environ = {**os.environ, **cluster.RAY_ENVIRONMENT, "TMPDIR": "/tmp"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ, cwd=folder)


def test_the_programs_own_way_to_end_stays(tmp_path: Path) -> None:
    """Ray takes SIGTERM for itself, and would exit with code 15."""
    program = (
        "import os, signal, sys, time, treadle\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "with treadle.Pool(1, engine='ray') as pool:\n"
        "    assert pool.submit(abs, -5).result(60) == 5\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (7, ""), done


def test_a_program_that_connects_twice(tmp_path: Path) -> None:
    """What the first map has left warm is gone with the first connection."""
    program = (
        "import ray, treadle\n"
        "for _ in range(2):\n"
        "    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level='WARNING')\n"
        "    print(sum(treadle.map(abs, range(50), engine='ray', workers=1)))\n"
        "    ray.shutdown()\n"
    )
    done = run(program, tmp_path)
    assert done.returncode == 0 and done.stdout.split() == ["1225"] * 2, done
    assert "SIGTERM handler" not in done.stderr, (
        "a thread of the pool's has started another cluster, to end what had ended"
    )


def test_room_that_another_pool_does_not_need(ray_cluster: cluster.RayCluster) -> None:
    """As that of a map, which is kept warm for the next one."""
    with treadle.Pool(3, engine="ray") as first, treadle.Pool(1, engine="ray") as second:
        assert sum(first.map(cluster.brief, range(300))) > 0
        cluster.until(lambda: sum(worker.state == "idle" for worker in first.stats().workers) == 3)
        assert second.submit(work.square, 3).result(60) == 9
        assert list(first.map(work.square, range(20))) == [x * x for x in range(20)]


def test_a_cluster_of_its_own(tmp_path: Path) -> None:
    """In a program of its own, at whose end nothing of it is left."""
    program = (
        "import treadle\n"
        "print(sum(treadle.map(abs, range(-500, 0), engine='ray', workers=2)))\n"
        "with treadle.Pool(1, engine='ray') as pool:\n    print(pool.submit(abs, -5).result(60))\n"
    )
    mark = f"of-its-own-{os.getpid()}"
    environ = {**os.environ, **cluster.RAY_ENVIRONMENT, cluster.MARK: mark, "TMPDIR": "/tmp"}  # Ray leaves logs there
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, env=environ, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout.split() == [str(sum(range(501))), "5"], done
    cluster.until(lambda: not cluster.marked(mark), 20)
