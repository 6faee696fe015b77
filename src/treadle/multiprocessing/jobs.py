"""Maps that still take from their input.  A pool that is closed stays open for them."""

from __future__ import annotations

import itertools
import os
import weakref
from types import TracebackType
from typing import Protocol, Self

from ..pool import registry
from ..pool.pool import Pool
from ..pool.waits import wait
from ..sync import Condition

_ids = itertools.count(1)


class Source(Protocol):
    """What a job takes its input from.  Every method may be called from any thread, and more than once."""

    def open_up(self) -> None:
        """The pool was closed: don't wait for the reader any more."""

    def leave(self) -> None:
        """The block or the program is left: if somebody has begun to read, he won't read on."""

    def drop(self) -> None:
        """The pool is terminated."""


class Job:
    """One map, from its call until all of its input has been submitted.

    As a context manager it ends when the call of the map itself has failed.  One that nobody holds any more ends too:
    a Ctrl-C may come between any two steps.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._id = next(_ids)
        self.source: Source | None = None
        jobs.add(self._id, self)

    def end(self) -> None:
        """All is submitted.  Idempotent."""
        self.source = None
        self._jobs.discard(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()


class Jobs:
    """The jobs of one pool.  Thread-safe."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed = Condition()  # guards: _closing, _shut
        self._open: dict[int, weakref.ref[Job]] = {}  # only single operations that are atomic
        self._closing = False
        self._shut = False  # Invariant: once True, no job is open

    def new(self) -> Job:
        """One more."""
        return Job(self)

    def add(self, id: int, job: Job) -> None:
        """It is open."""
        _live[builtin_id(self)] = self
        reactor = self._pool.driver.reactor
        # From the garbage collector, possibly in the middle of anything: no lock may be taken there.
        self._open[id] = weakref.ref(job, lambda _: reactor.call_soon(lambda: self.discard(id)))

    def discard(self, id: int) -> None:
        """It is not any more."""
        with self._changed:
            self._open.pop(id, None)
            self._changed.notify_all()
        if not self._open:
            _live.pop(builtin_id(self), None)
            if self._open:  # a new one came in between
                _live[builtin_id(self)] = self
        self._maybe_shut()

    def close(self) -> None:
        """There will be no more: shut the pool down when the last one is done."""
        self._closing = True
        for source in self._sources():
            source.open_up()
        self._maybe_shut()

    def _maybe_shut(self) -> None:
        with self._changed:
            if not self._closing or self._open or self._shut:
                return
        self._pool.shutdown(wait=False)  # again, if somebody else does it at the same time: that is no harm
        self._shut = True

    def leave(self) -> None:
        """Nobody will read what is being read now."""
        for source in self._sources():
            source.leave()

    def drop(self) -> None:
        """The pool is terminated."""
        for source in self._sources():
            source.drop()

    def wait(self) -> None:
        """Until none is open."""
        wait(self._sleep)

    def _sleep(self, seconds: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)

    def _sources(self) -> list[Source]:
        jobs = [ref() for ref in list(self._open.values())]
        return [job.source for job in jobs if job is not None and job.source is not None]


builtin_id = id
_live: dict[int, Jobs] = {}  # those with open jobs; only single operations that are atomic


def _before_exit() -> None:
    """Leaving the program finishes the work: first all of it has to be submitted."""
    for jobs in list(_live.values()):
        jobs.leave()
    for jobs in list(_live.values()):
        jobs.wait()


registry.before_exit(_before_exit)
os.register_at_fork(after_in_child=_live.clear)
