"""A failure that nobody looks at is logged once; one that somebody has looked at is not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle import Pool


def fail(what: str = "lost") -> None:
    raise ValueError(what)


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(1, engine=request.param) as pool:
        yield pool


def told(caplog: pytest.LogCaptureFixture, pool: Pool) -> list[str]:
    """What was logged until now; the reactor's thread has done what was posted to it."""
    pool.submit(int).result(20)  # a pool that was never used has no such thread
    gc.collect()
    done = threading.Event()
    pool.driver.reactor.call_soon(done.set)
    assert done.wait(10)
    found = [r for r in caplog.records if r.name == "treadle" and "nobody looked" in r.getMessage()]
    assert all(r.levelname == "ERROR" and r.exc_info is not None for r in found)
    caplog.clear()
    return [str(r.exc_info[1]) for r in found if r.exc_info is not None]


def failed(pool: Pool, *args: Any) -> treadle.Future:
    """A future that has failed, which nobody has looked at."""
    future = pool.submit(fail, *args)
    while not future.done():
        pool.submit(int).result(20)
    return future


def test_a_dropped_failure(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.submit(fail, "first")
    pool.submit(int).result(20)
    assert told(caplog, pool) == ["first"]
    future = failed(pool, "second")
    assert told(caplog, pool) == [], "it can still be looked at"
    del future
    assert told(caplog, pool) == ["second"]
    assert told(caplog, pool) == [], "once"


def test_of_what_was_never_sent(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    if pool.decision.engine == "threads":  # type: ignore[union-attr]
        pytest.skip("threads take everything")
    pool.submit(fail, threading.Lock())  # type: ignore[arg-type]
    assert len(told(caplog, pool)) == 1


def _result(future: treadle.Future) -> None:
    with pytest.raises(ValueError):
        future.result()


LOOKS: dict[str, Callable[[treadle.Future], Any]] = {
    "result": _result,
    "exception": lambda f: f.exception(),
    "callback": lambda f: f.add_done_callback(lambda f: None),
    "wait": lambda f: concurrent.futures.wait([f]),
    "as_completed": lambda f: list(concurrent.futures.as_completed([f])),
    "treadle.wait": lambda f: treadle.wait(f),
}


@pytest.mark.parametrize("how", LOOKS)
def test_looking(pool: Pool, how: str, caplog: pytest.LogCaptureFixture) -> None:
    future = failed(pool)
    LOOKS[how](future)
    del future
    assert told(caplog, pool) == []
    future = pool.submit(fail)
    LOOKS[how](future)  # perhaps before it has failed
    del future
    pool.submit(int).result(20)
    assert told(caplog, pool) == []


def test_not_looking(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """To ask whether it is done is not to look."""
    future = failed(pool, "only asked")
    assert future.done() and not future.running() and not future.cancelled() and not future.cancel()
    del future
    assert told(caplog, pool) == ["only asked"]


def test_cancelled_ones_and_results_are_no_failures(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    futures = [pool.submit(abs, -i) for i in range(100)]
    for future in futures:
        future.cancel()
    del futures, future
    pool.submit(int).result(20)
    assert told(caplog, pool) == []


def test_asyncio_reports_its_own(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            await pool.asubmit(fail)

    asyncio.run(main())
    assert told(caplog, pool) == []


def test_in_a_cycle(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    future = failed(pool, "in a cycle")
    holder: dict[str, Any] = {"future": future}
    holder["self"] = holder
    del future, holder
    assert told(caplog, pool) == ["in a cycle"]


def test_maps_have_readers(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    assert len(list(pool.map(fail, "abc", on_error="return"))) == 3
    with pytest.raises(ValueError):
        list(pool.map(fail, "abc"))
    assert told(caplog, pool) == []


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_at_the_end_of_the_program(engine: str, tmp_path: Path) -> None:
    """The pool may be closed long before: as long as the program runs, somebody may look."""
    path = tmp_path / "program.py"
    path.write_text(
        "import treadle\n"
        "def fail(what): raise ValueError(what)\n"
        f"with treadle.Pool(1, {engine!r}) as pool:\n"
        "    kept, seen = pool.submit(fail, 'kept'), pool.submit(fail, 'seen')\n"
        "print(type(seen.exception()).__name__)\n"
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ValueError\n")
    assert done.stderr.count("nobody looked") == 1 and "ValueError: kept" in done.stderr
    assert "seen" not in done.stderr
