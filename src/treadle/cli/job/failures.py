"""The file beside the output, OUT.errors.jsonl: one line for each item that failed.

While a job runs it only grows, so the file of an interrupted job may hold items that have succeeded since, or an
item's older failures: what counts is an item's last line, and only if the item is not done.  `compact`, at the
beginning and the end of a resumed job, leaves just that, by replacing the file whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from treadle.cli.job.codec import decode, encode
from treadle.cli.job.files import LineFile, remove, replacement
from treadle.cli.job.journal import may_be_torn
from treadle.cli.problems import Refusal
from treadle.errors import failure

__all__ = ["Failures", "describe", "path_beside"]


def path_beside(output: Path) -> Path:
    """Where the failures of the job with this output are written."""
    return output.with_name(output.name + ".errors.jsonl")


class Failures:
    """The error file of one job.  It exists only while it has something to say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: LineFile | None = LineFile.open(path) if path.exists() else None
        self._lock = Lock()  # guards everything below: bad input is noted by whoever reads the input
        # Invariant: {index: (offset, size)} of each item's last line, without the items of `recovered`.
        self._lines: dict[int, tuple[int, int]] = {}
        self._tidy = True  # the file has just these lines, in the order of their indexes
        self._latest = -1

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def last(self) -> int:
        """The largest index of an item that failed, -1 if none did."""
        return max(self._lines, default=-1)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return 0 if self._file is None else self._file.size

    def load(self, is_done: Callable[[int], bool]) -> None:
        """Learn what failed in earlier runs, and cut off a torn last line.  Raises Refusal, leaving the file be."""
        if self._file is None:
            return
        size = 0
        for number, (offset, line) in enumerate(self._file.lines(), 1):
            if not line.endswith(b"\n"):
                if not may_be_torn(line):
                    raise Refusal(f"{self.path} is not an error file of treadle map, so it is left as it is")
                break
            try:
                index = decode(line.decode("utf-8"))["index"]
                if type(index) is not int:
                    raise TypeError
            except (ValueError, LookupError, TypeError, RecursionError):
                raise Refusal(f"line {number} of {self.path} is damaged; delete that line, or the file")
            self._note(index, offset, len(line))
            size = offset + len(line)
        if size < self._file.size:
            self._file.cut(size)
        for index in [index for index in self._lines if is_done(index)]:
            self.recovered(index)
        self.compact()

    def add(self, index: int, encoded_input: bytes, error: BaseException) -> None:
        """Write the line of one failed item.  Raises Unwritable, and then the file is as it was."""
        line = b'{"index": %d, "input": %b, %b\n' % (index, encoded_input, encode(describe(error))[1:])
        with self._lock:
            if self._file is None:
                self._file = LineFile.open(self.path)
            offset = self._file.size
            self._file.append(line)
            self._note(index, offset, len(line))

    def recovered(self, index: int) -> None:
        """The item is done after all (or was never here)."""
        if index in self._lines:  # without the lock: nobody else notes the same item
            with self._lock:
                del self._lines[index]
                self._tidy = False

    def clear(self) -> None:
        """Forget everything and delete the file.  Raises Unwritable."""
        with self._lock:
            self._lines.clear()
            self._tidy = False
        self.compact()

    def compact(self) -> None:
        """Leave only the last line of each item that is still failing; no such item, no file.  Raises Unwritable."""
        with self._lock:
            old = self._file
            if old is None or (self._tidy and self._lines):
                return
            order = sorted(self._lines)
            if order:
                with replacement(old) as new:
                    new.extend(old.read(*self._lines[index]) for index in order)
                self._file = new
                self._renumber(order)
            else:
                remove(self.path)
                self._file = None
                self._latest = -1
            old.close()
            self._tidy = True

    def sync(self) -> None:
        """Wait until the disk has everything.  Raises Unwritable."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Close the file.  Harmless twice."""
        if self._file is not None:
            self._file.close()

    def _note(self, index: int, offset: int, size: int) -> None:
        if index <= self._latest:
            self._tidy = False
        else:
            self._latest = index
        self._lines[index] = (offset, size)

    def _renumber(self, order: list[int]) -> None:
        offset = 0
        for index in order:
            size = self._lines[index][1]
            self._lines[index] = (offset, size)
            offset += size
        self._latest = order[-1]


def describe(error: BaseException) -> dict[str, object]:
    """What an error line says of the error: its type, message, traceback and the attempts it took."""
    info = failure(error)
    return {
        "type": _type_name(error),
        "message": _message(error),
        "traceback": "" if info is None else _without_our_frames(info.traceback),
        "attempts": 0 if info is None else info.attempts,
    }


def _type_name(error: BaseException) -> str:
    """As at the end of a traceback, but treadle's own without their module."""
    given = getattr(error, "type_name", "")  # RemoteError stands in for an exception of this type
    name = given if isinstance(given, str) and given else f"{type(error).__module__}.{type(error).__qualname__}"
    if name.startswith("treadle."):
        return name.rpartition(".")[2]
    return name.removeprefix("builtins.")


def _without_our_frames(traceback: str) -> str:
    """A traceback without the steps between the pool and the user's function."""
    ours = f'  File "{Path(__file__).parent}/'
    lines = []
    skipping = False
    for line in traceback.splitlines(keepends=True):
        skipping = line.startswith(ours) or (skipping and line.startswith("    "))
        if not skipping:
            lines.append(line)
    return "".join(lines)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its __str__ raises {type(broken).__name__})"
