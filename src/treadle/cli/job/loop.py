"""The job itself: items from a source, through `treadle.map`, into a sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from treadle.cli.job.codec import encode, shown
from treadle.cli.job.journal import fingerprint
from treadle.cli.job.sink import Sink
from treadle.cli.job.source import BadLine, Source
from treadle.cli.job.stops import Stopped, Stops
from treadle.cli.problems import Problem, Refusal
from treadle.errors import TreadleError

__all__ = ["Display", "Job", "Tally"]


@dataclass(slots=True)
class Tally:
    """How far one run has come."""

    done: int = 0
    wrong: int = 0  # the function failed on them
    rejected: int = 0  # never reached the function: the line is not JSON
    skipped: int = 0  # done by earlier runs
    seconds: float = 0.0
    decision: str | None = None  # which engine, and why

    @property
    def failed(self) -> int:
        return self.wrong + self.rejected


class Display(Protocol):
    """Shows how far the job is; called for every item, so it should be quick."""

    def update(self, done: int, failed: int, decision: str | None) -> None: ...


class Job:
    """One run of `treadle map`.

    `start` gets the iterator of the items and returns a `treadle.pool.MapIterator` over functions that return bytes.
    `tally` is kept up to date.
    `sort` says whether a finished job's results shall be in the order of the input, whatever runs they come from.
    """

    def __init__(
        self, source: Source, sink: Sink, start: Callable[[Iterator[Any]], Any], tally: Tally, *, sort: bool
    ) -> None:
        self.tally = tally
        self._source = source
        self._sink = sink
        self._start = start
        self._sort = sort
        self._verified = False  # all that is done was done for this input
        self._problem: Problem | None = None  # what ended the input early
        # Invariant: {place among the submitted: (index, encoded input)} of every item that is in the pool.  The input
        # is encoded before the function gets the item, for in a thread the function may change the item.
        self._pending: dict[int, tuple[int, bytes]] = {}

    def prepare(self) -> None:
        """Check what is done against the input, if that can be read twice; other inputs are checked as they come.

        Raises Refusal, before anything has run.
        """
        done, reach = self._sink.done, self._sink.reach
        if not reach or not self._source.again:
            return
        place = count = 0
        for count, (number, raw) in enumerate(self._source, 1):
            if place < len(done) and done.indexes[place] == count - 1:
                self._check(count - 1, place, number, raw)
                place += 1
            if count == reach:
                break
        self._check_count(count)
        self._verified = True

    def run(self, display: Display, stops: Stops) -> None:
        """Run to the end.  Raises Stopped, Problem or BrokenPipeError; the files are valid and `tally` right always."""
        began = time.monotonic()
        try:
            self._consume(display, stops)
            if self._problem is not None:
                raise self._problem
        except (Stopped, Refusal):
            self._sink.finish(sort=False)
            raise
        finally:
            self.tally.seconds = time.monotonic() - began
        self._sink.finish(self._sort)

    def _consume(self, display: Display, stops: Stops) -> None:
        tally = self.tally
        results = self._start(self._feed())
        try:
            for outcome in stops.watch(iter(results.outcomes())):
                index, encoded_input = self._pending.pop(outcome.index)
                if outcome.ok:
                    self._sink.result(index, encoded_input, outcome.value)
                    tally.done += 1
                else:
                    self._sink.failed(index, encoded_input, outcome.error)
                    tally.wrong += 1
                if tally.decision is None and results.decision is not None:
                    tally.decision = str(results.decision)
                display.update(tally.done + tally.failed, tally.failed, tally.decision)
                if self._problem is not None:
                    return
        except TreadleError as error:  # not of an item: the pool itself can't go on
            raise Problem(f"the workers cannot go on: {error}")
        finally:
            results.close()

    def _feed(self) -> Iterator[Any]:
        """The items that are not done yet.  Called by the pool, perhaps in a thread of its own."""
        done = self._sink.done
        place = submitted = 0
        index = -1
        try:
            for index, (number, raw) in enumerate(self._source):
                if place < len(done) and done.indexes[place] == index:
                    if not self._verified:
                        self._check(index, place, number, raw)
                    place += 1
                    self.tally.skipped += 1
                    continue
                try:
                    item = self._source.parse(number, raw)
                    encoded = encode(item)
                except (BadLine, RecursionError) as error:  # the latter: nested more deeply than can be written
                    self._sink.failed(index, encode(raw.decode("utf-8", "surrogateescape")), error)
                    self.tally.rejected += 1
                    continue
                self._pending[submitted] = index, encoded
                submitted += 1
                yield item
            self._check_count(index + 1)
        except Problem as problem:
            self._problem = problem

    def _check(self, index: int, place: int, number: int, raw: Any) -> None:
        try:
            encoded = encode(self._source.parse(number, raw))
        except BadLine:
            encoded = b"something that is not JSON"
        if fingerprint(encoded) != self._sink.done.prints[place]:
            raise Refusal(
                f"the input has changed since {self._sink.name} was begun: item {index} was "
                f"{shown(self._sink.input_at(index))} and is now {shown(encoded)}; "
                f"resume with the old input, or start anew with --overwrite"
            )

    def _check_count(self, count: int) -> None:
        if count < self._sink.reach:
            raise Refusal(
                f"the input has changed since {self._sink.name} was begun: it has {count} items, but item "
                f"{self._sink.reach - 1} was among them; resume with the old input, or start anew with --overwrite"
            )
