"""`imap`: results one by one, of calls that are made without waiting for the reader."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from multiprocessing.context import TimeoutError
from typing import TYPE_CHECKING, Any

from ..pool import contexts
from ..pool.chunks import Many, Part, item_error, payload_size
from ..pool.failures import describe_task
from ..pool.results import resolve
from ..pool.task import CANCELLED, RETURNED, Call, Task
from ..pool.waits import wait
from ..sync import Condition
from .async_result import as_here
from .jobs import Job

if TYPE_CHECKING:
    from ..pool.driver import Driver

AHEAD = 10_000  # chunks submitted and unread, once somebody reads
AHEAD_BYTES = 64 << 20  # bytes of them, in and out
AT_ONCE = 64  # items submitted together, where taking them can't block
SHORT = 256  # items: an input with no more of them needs no thread


class _Failed:
    """What stands in the place of a value: what its call has raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Stream:
    """The calls of one `imap`.  Its tasks and its thread hold it, but not the iterator, which may so be dropped."""

    def __init__(
        self, driver: Driver, fn: Callable[..., Any], iterable: Iterable[Any], chunk: int, ordered: bool, job: Job
    ) -> None:
        self.driver = driver
        self._fn = fn
        self._iterable: Iterable[Any] | None = iterable
        self._chunk = chunk
        self._ordered = ordered
        self._packs = driver.engine.name != "threads"  # do arguments and results have a size?
        self._job = job
        self._memo: dict[str, Any] = {"context": contexts.current()}
        self._changed = Condition()  # guards the rest.  Rank: a leaf; nothing is called under it.
        self._ready: deque[tuple[list[Any], int]] = deque()  # chunks with their bytes, in the order of reading
        self._early: dict[int, tuple[list[Any], int]] = {}  # ordered: chunks that others have to precede
        self._turn = 0  # which is next to be ready, if they come in order
        self._open: dict[int, Task] = {}  # submitted, and not ended
        self._bytes = 0  # of chunks submitted and unread: of what they were called with, then of their results
        self._count = 0  # chunks that there will have been, so far
        self._out = 0  # chunks that were taken out by the reader
        self._asleep = 0  # threads that wait for a change; after an interrupt it may be one too many
        self._begun = False  # somebody reads
        self._bounded = True  # the reader may be waited for
        self._stopped = False  # take no more input
        self._fed = False  # there will be no more chunks
        self._end: BaseException | None = None  # raised after the last item

    # -- feeding

    def start(self) -> None:
        """Begin to take the input: here, if that can't take long, else in a thread."""
        self._job.source = self
        plain = type(self._iterable) in (list, tuple, range)
        if not plain or len(self._iterable) > SHORT:  # type: ignore[arg-type]
            try:
                threading.Thread(target=self._feed, name="treadle-imap", daemon=True).start()
                return
            except RuntimeError:  # the program is about to end, and no thread starts any more
                pass
        self._feed()

    def _feed(self) -> None:
        at_once = 1
        if type(self._iterable) in (list, tuple, range):
            at_once = max(1, AT_ONCE // self._chunk)
        try:
            source = iter(self._iterable)  # type: ignore[arg-type]
            while self._room():
                chunks, trouble = self._take(source, at_once)
                if chunks and not self._submit(chunks):
                    break
                if trouble is not None:
                    self._settle(self._new(), [_Failed(trouble)])
                if trouble is not None or len(chunks) < at_once:
                    break
        except Exception as error:
            self._settle(self._new(), [_Failed(error)])
        finally:
            with self._changed:
                self._fed = True
                self._iterable = None
                self._changed.notify_all()
            self._job.end()

    def _take(self, source: Iterator[Any], at_once: int) -> tuple[list[tuple[Any, ...]], BaseException | None]:
        """Some chunks.  The end of the source, or its error, comes after what was taken."""
        chunks: list[tuple[Any, ...]] = []
        try:
            for _ in range(at_once):
                chunk = tuple(itertools.islice(source, self._chunk))
                if not chunk:
                    break
                chunks.append(chunk)
        except Exception as error:
            return chunks, error
        return chunks, None

    def _room(self) -> bool:
        """Wait until more may be submitted; False if no more is wanted."""
        with self._changed:
            while not self._stopped:
                if not (self._begun and self._bounded):
                    return True
                if self._count - self._out < AHEAD and self._bytes < AHEAD_BYTES:
                    return True
                self._asleep += 1
                self._changed.wait()
                self._asleep -= 1
            return False

    def _new(self, chunks: int = 1) -> int:
        """Room for so many more; the number of the first of them.  Only the one who feeds calls this."""
        with self._changed:
            self._count += chunks
            return self._count - chunks

    def _submit(self, chunks: list[tuple[Any, ...]]) -> bool:
        tasks, size, encode = [], 0, self.driver.engine.encode
        for number, chunk in enumerate(chunks, self._new(len(chunks))):
            try:
                call = encode(self._fn, chunk, None, self._memo)
            except Exception as error:  # it can't be pickled, or there is no memory for that
                trouble = as_here(describe_task(error, Task(Call(self._fn, chunk, None), self, number)))
                self._settle(number, [_Failed(trouble)])
                continue
            if self._packs:
                size += payload_size(call.payload)
            tasks.append(Task(call, self, number))
        with self._changed:
            self._open.update((task.index, task) for task in tasks)  # type: ignore[misc]
            self._bytes += size
        if tasks and not self.driver.submit(tasks):
            refusal = CancelledError("the pool was terminated")
            for task in tasks:
                assert task.index is not None
                self._settle(task.index, [_Failed(refusal)], payload_size(task.call.payload))
            return False
        return True

    # -- results

    def deliver(self, task: Task, kind: int, data: Any) -> None:
        """A chunk has ended (see `task.Sink`)."""
        index, chunk, fn = task.index, task.call.args, task.call.fn
        assert index is not None
        if kind == RETURNED and not self._packs and type(fn) is not Many:  # nearly all, in threads
            self._settle(index, [data])
            return
        values: list[Any]
        if kind == CANCELLED:
            values = [_Failed(CancelledError("the pool was terminated"))]
        else:
            ok, value = resolve(task, kind, data)
            if not ok:
                values = [_Failed(as_here(value))]
            elif isinstance(fn, Many) and isinstance(value, Part):
                values = value.results
                for place, failure in value.failed:
                    at = index * self._chunk + place
                    values[place] = _Failed(as_here(item_error(fn, self, chunk[place], at, failure)))
            else:
                values = [value]
        self._settle(index, values, payload_size(task.call.payload), payload_size(data))

    def _settle(self, number: int, values: list[Any], was: int = 0, size: int = 0) -> None:
        with self._changed:
            self._open.pop(number, None)
            self._bytes += size - was
            if self._ordered and number != self._turn:
                self._early[number] = values, size
            else:
                self._ready.append((values, size))
                self._turn += 1
                while self._early and (chunk := self._early.pop(self._turn, None)) is not None:
                    self._turn += 1
                    self._ready.append(chunk)
            # One that others have to precede is nothing to the reader yet, and gives no room.
            if self._asleep and (self._ready or size < was):
                self._changed.notify_all()

    # -- reading

    def read(self, sleep: float | None) -> list[Any] | None:
        """What there is to read now, nothing at the end; None if there is nothing within so many seconds."""
        with self._changed:
            self._begun = True
            if not self._ready:
                self._asleep += 1
                there = self._changed.wait_for(lambda: self._ready or (self._fed and self._out == self._count), sleep)
                self._asleep -= 1
                if not there:
                    return None
            if not self._ready and self._end is not None:
                raise self._end
            found: list[Any] = []
            while self._ready:
                chunk, size = self._ready.popleft()
                found += chunk
                self._out += 1
                self._bytes -= size
            if self._asleep:
                self._changed.notify_all()
            return found

    # -- ends (see `jobs.Source`)

    def open_up(self) -> None:
        """The pool was closed: don't wait for the reader any more."""
        with self._changed:
            self._bounded = False
            self._changed.notify_all()

    def leave(self) -> None:
        """If somebody has begun to read, take no more input; he is told at the end of what was taken."""
        with self._changed:
            self._bounded = False
            if self._begun:
                self._stop("the pool was left while this was being read")

    def drop(self) -> None:
        """The pool is terminated."""
        with self._changed:
            self._stop("the pool was terminated")
            self._fed = True  # its thread may be stuck in the input

    def abandon(self) -> None:
        """The iterator is gone.  If it was never read, the calls are made for their own sake; else not."""
        with self._changed:
            if not self._begun:
                return
            self._stop("")
            tasks = list(self._open.values())
        if tasks:
            self.driver.drop(tasks)

    def _stop(self, why: str) -> None:
        self._stopped = True
        if not self._fed:
            self._end = CancelledError(why)
        self._changed.notify_all()


class IMapIterator(Iterator[Any]):
    """The results of an `imap`.  To be read by one thread at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._values: list[Any] = []  # what came and was not handed out, the next one last: nothing else holds it then

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next value; waits for it at most `timeout` seconds.

        Raises what that call raised, `StopIteration` at the end, and `multiprocessing.TimeoutError` if it is not done
        in time.
        """
        while not self._values:
            self._read(timeout)
        value = self._values.pop()
        if type(value) is not _Failed:
            return value
        raise value.error

    def _read(self, timeout: float | None) -> None:
        stream = self._stream
        found: list[list[Any]] = []

        def sleep(seconds: float | None) -> bool:
            chunk = stream.read(seconds)
            if chunk is not None:
                found.append(chunk)
            return chunk is not None

        if not sleep(0.0):
            with stream.driver.waiting("result"):
                wait(sleep, timeout)
        if not found:
            raise TimeoutError
        if not found[0]:
            raise StopIteration
        self._values = found[0]
        self._values.reverse()

    __next__ = next

    def __del__(self) -> None:
        # Possibly in the middle of anything, so without any lock: the reactor does it.
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.driver.reactor.call_soon(stream.abandon)


class IMapUnorderedIterator(IMapIterator):
    """The same, in the order in which they are done."""
