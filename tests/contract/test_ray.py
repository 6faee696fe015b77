"""The pool on a real Ray cluster: a head and two nodes, processes of their own, over TCP."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cluster_work as cluster
import pytest

pytest.importorskip("ray", reason="treadle[ray] is not installed")
# By hand: on a busy machine Ray needs more than a minute for what a quiet one does in twenty seconds.
pytestmark = [pytest.mark.heavy, pytest.mark.by_hand, pytest.mark.timeout(100)]

PROGRAM = """
import os, signal, sys, time
import treadle, cluster_work, contract_work as work

def die(x):
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x

with treadle.Pool(3, engine="ray", address=sys.argv[1]) as pool:
    assert pool.submit(work.square, 7).result(60) == 49
    here = list(treadle.map(cluster_work.mixed, range(600), engine="processes", workers=2, on_error="return"))
    there = list(pool.map(cluster_work.mixed, range(600), on_error="return"))
    assert [repr(x) for x in there] == [repr(x) for x in here]
    crashed = list(pool.map(die, range(20), on_error="return"))
    assert isinstance(crashed[5], treadle.WorkerDied) and crashed[5].signal == signal.SIGKILL
    assert [x for x in crashed if x is not crashed[5]] == [x for x in range(20) if x != 5]
    try:
        pool.options(timeout=0.3).submit(time.sleep, 30).result(60)
        raise AssertionError("no time-out")
    except treadle.TaskTimeout:
        pass
    data = b"x" * (3 << 20)
    assert list(pool.map(lambda x, data=data: len(data) + x, range(10))) == [len(data) + x for x in range(10)]
    assert pool.options(num_cpus=0.5).submit(work.square, 3).result(60) == 9
    print("plain", flush=True)

    # Actors killed in the middle of 2,000 tasks: they are tried again.
    results = pool.map(cluster_work.brief, range(2000), retries=3)
    got = [next(results) for _ in range(200)]
    os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
    got += [next(results) for _ in range(400)]
    os.kill(pool.stats().workers[-1].pid, signal.SIGKILL)
    got += results
    assert got == [3 * x for x in range(2000)]
    print("killed", flush=True)
"""


def test_a_head_and_two_nodes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environ = {**cluster.environment(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0"}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    port = cluster.free_port()
    small = ["--object-store-memory", str(80 << 20), "--disable-usage-stats"]
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")  # the names of sockets in it must not be long
    parts = []
    try:
        parts.append(
            subprocess.Popen(
                [*ray, "start", "--head", "--port", str(port), "--node-ip-address", "127.0.0.1", "--num-cpus", "1",
                 "--include-dashboard", "false", "--temp-dir", short, "--block", *small],
                env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
            )
        )  # fmt: skip
        cluster.until(lambda: cluster.listens(port), 60)
        for _ in range(2):
            parts.append(  # noqa: PERF401
                subprocess.Popen(
                    [*ray, "start", "--address", f"127.0.0.1:{port}", "--node-ip-address", "127.0.0.1",
                     "--num-cpus", "1", "--block", *small],
                    env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
                )
            )  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(program), f"127.0.0.1:{port}"],
            env=environ, capture_output=True, text=True, timeout=80,
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.split()[-2:] == ["plain", "killed"], done.stdout + done.stderr
    finally:
        for part in reversed(parts):
            part.terminate()
        for part in reversed(parts):
            try:
                part.wait(10)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
        shutil.rmtree(short, ignore_errors=True)
