from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from treadle.cli.job.stops import Stopped, Stops


def kill(signum: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_the_wait_for_an_item(signum: int) -> None:
    def source() -> Iterator[int]:
        yield 1
        kill(signum)
        yield 2

    seen = []
    with Stops().installed() as stops:
        with pytest.raises(Stopped) as caught:
            seen.extend(stops.watch(source()))
    assert caught.value.code == 128 + signum
    assert isinstance(caught.value, KeyboardInterrupt)


def test_a_signal_between_two_items_waits_for_the_next_step() -> None:
    seen = []
    with Stops().installed() as stops:
        with pytest.raises(Stopped, match="SIGTERM"):
            for item in stops.watch(iter([1, 2])):
                kill()
                seen.append(item)
    assert seen == [1]


def test_a_signal_before_the_job_is_heard_at_once_and_one_after_it_is_not() -> None:
    with Stops().installed():
        with pytest.raises(Stopped):
            kill()
    with Stops().installed() as stops:
        assert list(stops.watch(iter([1]))) == [1]
        kill()


def test_the_handlers_of_before_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stops().installed():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_third_signal_ends_a_process_that_hangs_while_it_stops() -> None:
    code = """
import os, signal
from treadle.cli.job.stops import Stopped, Stops
def source():
    yield 1
    os.kill(os.getpid(), signal.SIGINT)
with Stops().installed() as stops:
    try:
        list(stops.watch(source()))
    except Stopped:
        os.kill(os.getpid(), signal.SIGINT)
        print("still here", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        print("not here any more", flush=True)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "still here\n", "")
