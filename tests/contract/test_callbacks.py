"""Callbacks that raise or hang: reported, and nobody else's loss."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle import Future, Pool
from treadle.pool import watchdog


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, engine=request.param) as pool:
        yield pool


def broken(future: Future) -> None:
    raise LookupError("a broken callback")


def test_one_that_raises_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    future = pool.submit(_until, str(tmp_path / "go"))
    seen: list[object] = []
    future.add_done_callback(broken)
    future.add_done_callback(lambda f: seen.append(f.result()))
    (tmp_path / "go").touch()
    assert pool.submit(abs, -3).result(20) == 3
    pool.shutdown()
    assert seen == [None]
    (record,) = [r for r in caplog.records if "callback" in r.getMessage()]
    assert record.exc_info is not None and str(record.exc_info[1]) == "a broken callback"


def test_one_that_hangs_is_named(pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While it hangs: the test lets it go when it has been named."""
    monkeypatch.setattr(watchdog, "PATIENCE", 0.1)
    monkeypatch.setattr(watchdog, "LOOK", 0.05)
    named = threading.Event()
    found: list[str] = []

    class Notice(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has not returned" in record.getMessage():
                found.append(record.getMessage())
                named.set()

    handler = Notice()
    logging.getLogger("treadle").addHandler(handler)
    try:

        def sleepy(future: Future) -> None:
            assert named.wait(20)

        future = pool.submit(_until, str(tmp_path / "go"))
        future.add_done_callback(sleepy)
        (tmp_path / "go").touch()
        assert pool.submit(abs, -3).result(20) == 3
        assert named.wait(20)
    finally:
        logging.getLogger("treadle").removeHandler(handler)
    pool.shutdown()
    assert len(found) == 1 and "sleepy" in found[0] and "named.wait" in found[0]


def _until(path: str) -> None:
    """Return when the file is there."""
    end = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)


def test_many_quick_ones_are_not_named(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    for i in range(500):
        pool.submit(abs, i).add_done_callback(lambda f: done.append(f.result()))
    pool.shutdown()
    assert sorted(done) == list(range(500))
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert sys.exc_info() == (None, None, None)
