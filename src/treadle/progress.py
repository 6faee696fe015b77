"""How far a job has come, on a terminal or in a log.

On a terminal: a bar with rate, remaining time, failures, and above it, once it is known, which engine was chosen and
why.  Elsewhere: plain lines, one every five seconds at most.  `treadle.map(progress=True)` and `treadle map` use it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress", "duration_text", "rate_text"]

_BAR_SECONDS = 0.1
_LINE_SECONDS = 5.0


class Progress:
    """A display of one job.  `total` is the number of items, None if unknown; `label` is the job's name.

    `update` may be called for every item: it looks at the clock and seldom does more.  A stream that can't be written
    to any more silences the display; it never raises for that.
    """

    def __init__(self, total: int | None, label: str, stream: TextIO | None = None) -> None:
        self._total = total
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._done = 0
        self._failed = 0
        self._decision: str | None = None
        self._began = time.monotonic()
        self._closed = False
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown_decision = False
        if _is_terminal(self._stream):
            self._start_bar()
        self._next = self._began + (0 if self._bar else _LINE_SECONDS)

    def update(self, done: int, failed: int, decision: str | None) -> None:
        """`done` items are finished, `failed` of these with an error; `decision` is the engine and the reason."""
        self._done = done
        self._failed = failed
        self._decision = decision
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (_BAR_SECONDS if self._bar else _LINE_SECONDS)
            self._show(now)

    def note(self, text: str) -> None:
        """Write one line, above the bar if there is one."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or there is no stderr at all
            if self._bar is not None:
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                self._stream.write(text + "\n")
                self._stream.flush()

    def close(self, final: bool = True) -> None:
        """Show the last state and stop.  `final=False` leaves out the last plain line.  Harmless twice."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._show(time.monotonic())
            with contextlib.suppress(OSError, ValueError):
                self._bar.stop()
        elif final:
            self._show(time.monotonic())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def line(self, now: float | None = None) -> str:
        """The state in one line of text."""
        seconds = (time.monotonic() if now is None else now) - self._began
        rate = self._done / seconds if seconds > 0 else 0.0
        parts = [f"{self._label}: {self._done:,}"]
        if self._total:
            parts[0] += f"/{self._total:,} ({100 * self._done // self._total} %)"
        parts.append(f"{self._failed:,} failed")
        parts.append(f"{rate_text(rate)}, {duration_text(seconds)}")
        if self._total and rate > 0 and self._done < self._total:
            parts.append(f"{duration_text((self._total - self._done) / rate)} left")
        text = ", ".join(parts)
        return f"{text}; {self._decision}" if self._decision else text

    def _show(self, now: float) -> None:
        if self._bar is None or self._task is None:
            self.note(self.line(now))
            return
        with contextlib.suppress(OSError, ValueError):
            if self._decision and not self._shown_decision:
                self._shown_decision = True
                self.note(f"{self._label}: {self._decision}")
            seconds = now - self._began
            self._bar.update(
                self._task,
                completed=self._done,
                failed=f"{self._failed:,} failed" if self._failed else "",
                rate=rate_text(self._done / seconds if seconds > 0 else 0.0),
            )

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns: list[Any] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None if self._total else 20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(compact=True) if self._total else TimeElapsedColumn(),
            TextColumn("[red]{task.fields[failed]}"),
        ]
        self._bar = Progress(*columns, console=Console(file=self._stream), refresh_per_second=10)
        self._task = self._bar.add_task(self._label, total=self._total, rate="", failed="")
        self._bar.start()


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError, OSError):
        return False


def rate_text(per_second: float) -> str:
    """Items per second, or per minute where that is easier to read."""
    if per_second >= 10 or per_second == 0:
        return f"{per_second:,.0f}/s"
    if per_second >= 0.1:
        return f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


def duration_text(seconds: float) -> str:
    """A time in seconds, in words."""
    whole = round(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
