"""`treadle map`: parse the options, run the job, say how it went."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from treadle.cli.job.failures import path_beside
from treadle.cli.job.loop import Job, Tally
from treadle.cli.job.sink import Files, Sink, open_sink
from treadle.cli.job.source import Lines, Paths, Source
from treadle.cli.job.stops import Stopped, Stops
from treadle.cli.job.target import Target, find
from treadle.cli.problems import OK, SOME_FAILED, STUCK, Problem, Refusal
from treadle.cli.tracing import recorded
from treadle.errors import ClusterLost, EngineMissing
from treadle.progress import Progress, duration_text, rate_text

ENGINES = ("auto", "threads", "processes", "interpreters", "inline", "dask", "ray")
_BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE ended


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (0 < value < math.inf):
        raise click.BadParameter(f"{value} is not a positive number of seconds.")
    return value


@click.command(name="map", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("target", metavar="MODULE:FUNCTION")
@click.argument("input_", metavar="[INPUT]", required=False)
@click.option("-o", "--output", metavar="OUT", help="Write JSON lines to this file, which is the journal as well.")
@click.option("--glob", "patterns", metavar="PATTERN", multiple=True, help="The items are the paths that match.")
@click.option("--as", "form", type=click.Choice(["auto", "json", "text"]), default="auto", help="What a line is.")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True)
@click.option("--address", metavar="ADDRESS", help="Of the cluster, for dask and ray.  [default: one of its own]")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many at a time.  [default: by the CPUs]")
@click.option("--timeout", type=float, callback=_positive, metavar="SECONDS", help="For each item.")
@click.option("--retries", type=click.IntRange(min=0), default=0, metavar="N", help="More attempts for a failed item.")
@click.option("--ordered/--unordered", default=True, help="Results in the order of the input, or as they come.")
@click.option("--resume", is_flag=True, help="Skip what is in OUT already; try again what failed.")
@click.option("--overwrite", is_flag=True, help="Delete what is in OUT, and start anew.")
@click.option("--trace", metavar="FILE", help="Record who ran and waited when; see treadle trace.")
@click.option("--progress/--no-progress", default=None, help="Show how far the job is, on stderr.")
def command(
    target: str,
    input_: str | None,
    output: str | None,
    patterns: tuple[str, ...],
    form: str,
    engine: str,
    address: str | None,
    workers: int | None,
    timeout: float | None,
    retries: int,
    ordered: bool,
    resume: bool,
    overwrite: bool,
    trace: str | None,
    progress: bool | None,
) -> int:
    """Call FUNCTION of MODULE (a module's name, or a path to a .py file) with every item of the input.

    INPUT is a file, or - for standard input, with one item a line: JSON where the line parses as JSON, text
    otherwise.  The results are JSON lines, {"index":, "input":, "result":}, in OUT or on standard output; items that
    failed are in OUT.errors.jsonl.  After an interruption of any kind, the same command with --resume goes on.

    Exit codes: 0 all well, 1 some items failed, 2 usage, 3 the job could not go on (for example, the disk is full),
    130 Ctrl-C, 143 SIGTERM.
    """
    if resume and overwrite:
        raise Refusal("--resume goes on with what is there and --overwrite deletes it: choose one")
    how: dict[str, Any] = {
        "engine": engine, "address": address, "workers": workers,
        "ordered": ordered, "timeout": timeout, "retries": retries,
    }  # fmt: skip
    stops, screen = Stops(), _Screen()
    tally, sink = Tally(), None
    with stops.installed(), contextlib.ExitStack() as files:
        try:
            function = find(target)
            source = files.enter_context(contextlib.closing(_source(input_, patterns, form, output)))
            if output is not None and source.is_file(Path(output)):
                raise Refusal(f"{output} is the input; the output must be another file")
            sink = open_sink(output, resume=resume, overwrite=overwrite, note=screen.note)
            files.enter_context(contextlib.closing(sink))
            job = Job(source, sink, lambda items: _start(function, items, source, how), tally, sort=ordered)
            job.prepare()
            files.enter_context(recorded(trace, screen.note))
            if progress is None:  # not where the results are shown
                progress = output is not None or sys.stdout is None or not sys.stdout.isatty()
            if progress:
                screen.show(_remaining(source, sink), f"treadle map {function.place.function}")
            job.run(screen, stops)
        except Stopped as stop:
            screen.close()
            screen.note(f"treadle map: {_stopped(stop, tally, output)}")
            return stop.code
        except BrokenPipeError:
            return _BROKEN_PIPE
        except ClusterLost as error:
            raise Problem(str(error))
        except Problem as problem:
            if problem.code == STUCK and isinstance(sink, Files):
                problem.add(f"what is in {output} is intact, and --resume goes on from there")
            raise
        finally:
            screen.close()
        if progress or tally.failed:
            screen.note(f"treadle map: {_summary(tally, output)}")
        return SOME_FAILED if tally.failed else OK


def _start(function: Target, items: Iterator[Any], source: Source, how: dict[str, Any]) -> Any:
    """The iterator over the outcomes.  Raises Refusal for options that the pool does not take."""
    import treadle

    pauses = not source.again  # a pipe may pause: that must not hold back the results that are there
    try:
        return treadle.map(function, items, on_error="return", prefetch=pauses, **how)
    except (ValueError, EngineMissing) as error:
        raise Refusal(str(error))


class _Screen:
    """Stderr, with a progress display on it or without."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def show(self, total: int | None, label: str) -> None:
        self._progress = Progress(total, label)

    def update(self, done: int, failed: int, decision: str | None) -> None:
        if self._progress is not None:
            self._progress.update(done, failed, decision)

    def note(self, text: str) -> None:
        if self._progress is not None:
            self._progress.note(text)
        else:
            with contextlib.suppress(OSError):
                click.echo(text, err=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close(final=False)


def _source(name: str | None, patterns: tuple[str, ...], form: str, output: str | None) -> Source:
    if patterns:
        if name is not None:
            raise Refusal(f"the input is either the file {name} or the paths of --glob, not both")
        besides = [Path(output), path_beside(Path(output))] if output is not None else []
        return Paths(patterns, besides)
    if name is None and sys.stdin is not None and sys.stdin.isatty():
        raise Refusal("there is no input: name a file, pipe something in, or use --glob (- reads from the terminal)")
    return Lines(name or "-", form)


def _remaining(source: Source, sink: Sink) -> int | None:
    """How many items are still to do, if that can be known cheaply."""
    total = source.count()
    return None if total is None else total - len(sink.done)


def _summary(tally: Tally, output: str | None) -> str:
    """How a job that came to its end went."""
    finished = tally.done + tally.failed
    text = f"{tally.skipped:,} were done before; " if tally.skipped else ""
    text += f"{tally.done:,} done"
    if tally.failed:
        text += f", {tally.failed:,} failed"
    text += f" in {duration_text(tally.seconds)}"
    if finished and tally.seconds > 0:
        text += f" ({rate_text(finished / tally.seconds)})"
    if output is not None:
        text += f"; results in {output}"
        if tally.failed:
            text += f", failures in {path_beside(Path(output))} (--resume tries them again)"
    return f"{text}; {tally.decision}" if tally.decision else text


def _stopped(stop: Stopped, tally: Tally, output: str | None) -> str:
    """Why a job ended early, and what there is."""
    why = "interrupted" if stop.code == 128 + signal.SIGINT else f"stopped by {stop}"
    if not tally.done + tally.skipped:
        return f"{why} before there was a result"
    if output is None:
        return f"{why} after {tally.done:,} results"
    return f"{why}; {tally.done + tally.skipped:,} results are in {output}, and --resume goes on from there"
