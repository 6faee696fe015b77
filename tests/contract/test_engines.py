"""The public engine interface: an engine of one's own, inline, and what engines refuse."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import contract_work as work
import pytest
from engine_work import engines
from own_engine import FreshPython

import treadle
import treadle.engines
import treadle.pool.warm
from treadle.engines import Abilities, Engine, Work


class Here(Engine):
    """Runs everything in a thread of its own, or where it is told to."""

    name = "here"

    def run(self, worker: int, work: Work) -> None:
        threading.Thread(target=lambda: self.host.results(worker, work())).start()


def die(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_an_engine_in_one_file() -> None:
    with treadle.Pool(2, engine=FreshPython()) as pool:
        assert repr(pool) == "<treadle.Pool fresh: asked for, workers=2>"
        assert pool.submit(work.square, 5).result(30) == 25
        with pytest.raises(ValueError, match="bad item") as raised:
            pool.submit(work.fail, 1).result(30)
        assert "in fail" in str(raised.value.__cause__)
        results = list(pool.map(die, range(5), on_error="return"))
        assert results[:3] + results[4:] == [0, 1, 2, 4]
        assert isinstance(results[3], treadle.WorkerDied) and results[3].signal == signal.SIGKILL
        with pytest.raises(treadle.TaskTimeout):
            pool.options(timeout=0.5).submit(time.sleep, 30).result(30)
        with pytest.raises(treadle.Unsupported, match="engine 'fresh' has no memory_limit") as refused:
            pool.options(memory_limit=1 << 30)
        assert isinstance(refused.value, (ValueError, NotImplementedError)) and refused.value.option == "memory_limit"


def test_it_is_the_one_of_the_documentation() -> None:
    shown = (Path(__file__).parents[2] / "docs" / "outgrowing.md").read_text()
    code = (Path(__file__).parent / "own_engine.py").read_text()
    assert code[code.index("import os") :] in shown


def test_it_has_a_name_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def make(address: Any = None) -> Here:
        seen.append(address)
        return Here()

    monkeypatch.setattr("treadle.pool.catalog._registered", {})
    treadle.engines.register("here", make)
    assert list(treadle.map(work.square, range(200), engine="here", address="there")) == [x * x for x in range(200)]
    assert seen == ["there"]
    treadle.pool.warm.close()
    assert treadle.engines.abilities("here") == Abilities()
    with pytest.raises(ValueError, match="own"):
        treadle.engines.register("threads", make)


def test_an_engine_that_raises_fails_its_calls() -> None:
    class Broken(Engine):
        name = "broken"

        def run(self, worker: int, work: Work) -> None:
            raise OSError("no road")

    class Closed(Broken):
        def start(self, worker: int) -> None:
            raise OSError("no gate")

    with treadle.Pool(engine=Broken()) as pool:
        for _ in range(50):
            with pytest.raises(OSError, match="no road"):
                pool.submit(work.square, 1).result(10)
    with treadle.Pool(engine=Closed()) as pool, pytest.raises(treadle.WorkerStartError) as raised:
        pool.submit(work.square, 1).result(10)
    assert str(raised.value.__cause__) == "no gate"


def test_inline_is_in_the_callers_thread(tmp_path: Path) -> None:
    me = threading.get_ident()
    ran: list[int] = []
    with treadle.Pool(engine="inline") as pool:
        future = pool.submit(threading.get_ident)
        assert future.done() and future.result() == me
        results = pool.map(lambda x: ran.append(x) or threading.get_ident(), range(5))
        assert ran == []
        assert next(results) == me and ran == [0]
        assert list(results) == [me] * 4
        assert pool.submit(lambda: pool.submit(threading.get_ident).result()).result() == me  # within itself
        path = str(tmp_path / "calls")
        assert pool.options(retries=2, backoff=0.01).submit(work.fail_times, path, 2).result() == 3
        elsewhere: list[int] = []
        thread = threading.Thread(target=lambda: elsewhere.append(pool.submit(threading.get_ident).result()))
        thread.start()
        thread.join()
        assert elsewhere == [thread.ident]
        with pytest.raises(KeyError):
            pool.submit({}.__getitem__, 1).result()
        # In a callback nothing may wait: a thread of the engine's own runs it.
        done = threading.Event()
        pool.submit(abs, -1).add_done_callback(lambda _: pool.submit(done.set))
        assert done.wait(10)


def test_a_debugger_stops_in_an_inline_task() -> None:
    program = """if 1:
        import treadle
        def task(x):
            secret = x * 2
            breakpoint()
            return secret
        if __name__ == "__main__":
            print(list(treadle.map(task, [21], engine="inline")))
    """
    shown = subprocess.run(
        [sys.executable, "-c", program], input="p secret\nc\n", capture_output=True, text=True, timeout=30
    )
    assert "(Pdb) 42" in shown.stdout and "[42]" in shown.stdout, shown


def test_ctrl_c_in_an_inline_task_reaches_the_caller() -> None:
    pool = treadle.Pool(engine="inline")
    with pytest.raises(KeyboardInterrupt):
        pool.submit(signal.raise_signal, signal.SIGINT)
    assert pool.submit(work.square, 2).result() == 4
    pool.shutdown()


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_cluster_that_is_not_installed_says_what_to_install(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in ("ray", "distributed") else find(name, *rest)
    )
    for make in (lambda: treadle.Pool(engine=engine), lambda: treadle.map(abs, [1], engine=engine)):
        with pytest.raises(treadle.EngineMissing, match=rf"pip install 'treadle\[{engine}\]'") as raised:
            make()
        assert isinstance(raised.value, ImportError)


NAMED = engines("threads", "processes", "interpreters", "inline", "dask", "ray")


def refused(name: str, option: str, ask: Any) -> None:
    """It says at the call that this engine can't do it."""
    with pytest.raises(treadle.Unsupported) as refusal:
        ask()
    assert (refusal.value.engine, refusal.value.option) == (name, option)
    assert name in str(refusal.value) and option in str(refusal.value)
    assert isinstance(refusal.value, ValueError) and isinstance(refusal.value, NotImplementedError)


ASKED: dict[str, tuple[str, dict[str, Any]]] = {  # ability, and how it is asked for with a task
    "timeout": ("timeout", {"timeout": 20}),
    "memory_limit": ("memory_limit", {"memory_limit": 1 << 30}),
    "num_cpus": ("resources", {"num_cpus": 1}),
    "num_gpus": ("resources", {"num_gpus": 0}),
    "memory": ("resources", {"memory": 1 << 20}),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("option", ASKED)
def test_options_that_an_engine_has_work_and_others_are_refused(option: str, name: Any) -> None:
    ability, how = ASKED[option]
    with treadle.Pool(1, engine=name) as pool:
        if getattr(treadle.engines.abilities(name), ability):
            assert pool.options(**how).submit(work.square, 3).result(60) == 9
            assert list(pool.map(work.square, [4], **how)) == [16]
            return
        refused(name, option, lambda: pool.options(**how))
        refused(name, option, lambda: pool.map(work.square, [1], **how))
        refused(name, option, lambda: pool.amap(work.square, [1], **how))
        assert pool.submit(work.square, 3).result(60) == 9
    if ability != "resources":
        refused(name, option, lambda: treadle.map(work.square, [1], engine=name, **how))


@pytest.mark.parametrize("name", NAMED)
def test_streams_where_there_are_some(name: Any) -> None:
    if treadle.engines.abilities(name).stream:
        assert list(treadle.map(range, [3], engine=name, workers=1, stream=True)) == [0, 1, 2]
        return
    with treadle.Pool(1, engine=name) as pool:
        refused(name, "stream", lambda: pool.map(range, [3], stream=True))
    refused(name, "stream", lambda: treadle.map(range, [3], engine=name, stream=True))


def get_ready(x: int) -> None:
    os.environ["TREADLE_TEST_READY"] = str(x)


def is_ready() -> str:
    return os.environ.pop("TREADLE_TEST_READY")


@pytest.mark.parametrize("name", NAMED)
def test_what_a_pool_is_made_with(name: Any) -> None:
    can = treadle.engines.abilities(name)
    if can.initializer:
        with treadle.Pool(1, engine=name, initializer=get_ready, initargs=(5,)) as pool:
            assert pool.submit(is_ready).result(60) == "5"
    else:
        refused(name, "initializer", lambda: treadle.Pool(1, engine=name, initializer=get_ready))
    if can.memory_limit and can.initializer:
        with treadle.Pool(1, engine=name, max_memory_per_worker=1 << 40) as pool:
            assert pool.submit(work.square, 3).result(60) == 9
    else:
        refused(name, "max_memory_per_worker", lambda: treadle.Pool(1, engine=name, max_memory_per_worker=1 << 40))
    if name != "processes":
        refused(name, "start_method", lambda: treadle.Pool(1, engine=name, start_method="spawn"))


def locked(lock: Any) -> bool:
    with lock:
        return True


@pytest.mark.parametrize("name", NAMED)
def test_what_lies_in_shared_memory(name: Any) -> None:
    import treadle.multiprocessing

    lock = treadle.multiprocessing.Lock()
    with treadle.Pool(1, engine=name) as pool:
        if treadle.engines.abilities(name).share_memory:
            assert pool.submit(locked, lock).result(60)
            return
        refused(name, "share_memory", lambda: pool.submit(locked, lock))
        refused(name, "share_memory", lambda: pool.submit(lambda: locked(lock)))
        refused(name, "share_memory", lambda: list(pool.map(locked, [lock])))
        kept = list(pool.map(work.echo, [1, 2, [lock], 4], on_error="return"))
        assert kept[:2] + kept[3:] == [((x,), {}) for x in (1, 2, 4)] and isinstance(kept[2], treadle.Unsupported)


@pytest.mark.parametrize("name", NAMED)
def test_what_can_not_be_pickled(name: Any) -> None:
    lock = threading.Lock()
    with treadle.Pool(1, engine=name) as pool:
        future = pool.submit(locked, lock)
        if treadle.engines.abilities(name).takes_anything:
            assert future.result(60)
        else:
            error = future.exception(60)
            assert isinstance(error, treadle.TaskNotPicklable) and "argument 0" in str(error)


@pytest.mark.parametrize("name", NAMED)
def test_a_running_call_is_ended_by_cancelling_it_or_goes_on(name: Any, tmp_path: Path) -> None:
    can = treadle.engines.abilities(name)
    if not can.background:
        pytest.skip("the call has ended when `submit` returns")
    with treadle.Pool(1, engine=name) as pool:
        future = pool.submit(work.gate, str(tmp_path / "started"), str(tmp_path / "go"), 5)
        work.until(tmp_path / "started")
        assert future.cancel() == (can.kill or can.recall)  # a cluster ends it at the other end
        work.touch(tmp_path / "go")
        assert future.cancelled() or future.result(60) == 5
        assert pool.submit(work.square, 3).result(60) == 9


def test_what_makes_no_sense_is_refused() -> None:
    for how in ({"engine": "threads", "address": "x"}, {"engine": FreshPython(), "address": "x"}):
        with pytest.raises(ValueError, match="address"):
            treadle.Pool(**how)  # type: ignore[arg-type]
    with pytest.raises(treadle.Unsupported, match="start_method"):
        treadle.Pool(engine=FreshPython(), start_method="spawn")
    for engine in ("threads", "processes", "inline"):
        with treadle.Pool(1, engine=engine) as pool, pytest.raises(treadle.Unsupported, match="num_gpus"):
            pool.options(num_gpus=1)
    assert treadle.engines.abilities("processes").kill and not treadle.engines.abilities("threads").kill
