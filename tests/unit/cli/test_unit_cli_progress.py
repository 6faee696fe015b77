from __future__ import annotations

import io
import time
from itertools import count

import pytest

from treadle.progress import Progress, duration_text, rate_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_in_a_log_it_writes_a_line_every_five_seconds_and_one_at_the_end(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(200, "job", stream)
    for done in range(1, 101):
        clock[0] += 0.125
        progress.update(done, done // 50, "threads: they wait" if done > 60 else None)
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "job: 40/200 (20 %), 0 failed, 8.0/s, 5.0 s, 20 s left",
        "job: 80/200 (40 %), 1 failed, 8.0/s, 10 s, 15 s left; threads: they wait",
        "job: 100/200 (50 %), 2 failed, 8.0/s, 12 s, 12 s left; threads: they wait",
    ]


def test_without_a_total_it_counts() -> None:
    stream = io.StringIO()
    with Progress(None, "job", stream) as progress:
        progress.update(12345, 0, None)
    assert stream.getvalue().startswith("job: 12,345, 0 failed, ")


def test_on_a_terminal_it_draws_a_bar_and_says_which_engine_was_chosen(clock: list[float]) -> None:
    stream = Terminal()
    with Progress(200, "job", stream) as progress:
        clock[0] += 1
        progress.update(100, 3, "threads: 97 % of the time was waiting")
        progress.note("a note")
    text = stream.getvalue()
    assert "job: threads: 97 % of the time was waiting" in text
    assert "a note" in text
    assert "100/200" in text
    assert "3 failed" in text
    assert "100/s" in text


def test_a_broken_or_missing_stream_silences_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Progress(1, "job", Broken()) as progress:
        progress.update(1, 0, None)
        progress.note("x")
    monkeypatch.setattr("sys.stderr", None)
    with Progress(1, "job") as progress:
        progress.note("x")


def test_an_update_costs_little() -> None:
    progress = Progress(None, "job", io.StringIO())
    calls = 20_000
    best = min(_time(progress, calls) for _ in range(5))
    assert best / calls < 10e-6


def _time(progress: Progress, calls: int) -> float:
    numbers = count()
    began = time.perf_counter()
    for _ in range(calls):
        progress.update(next(numbers), 0, None)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (150, "2 min 30 s"), (7300, "2 h 01 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0, "0/s"), (12345.6, "12,346/s"), (3.14, "3.1/s"), (0.05, "3.0/min")])
def test_rates(rate: float, text: str) -> None:
    assert rate_text(rate) == text
