"""The items of the input: the lines of a file or of stdin, or paths that match a pattern."""

from __future__ import annotations

import codecs
import errno
import glob
import os
import select
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from treadle.cli.job.codec import decode
from treadle.cli.problems import Refusal, Unreadable
from treadle.errors import TreadleError

__all__ = ["BadLine", "Lines", "Paths", "Source"]

_COUNTABLE = 1 << 30  # bytes; larger inputs are not read twice only to show a percentage
_CHUNK = 1 << 18  # bytes
_JSON_STARTS = frozenset('{["-0123456789tfn')


class BadLine(TreadleError, ValueError):
    """A line of the input that is not JSON, where JSON was asked for.  Only this item fails."""


class Source(Protocol):
    """Where the items come from.  An item's index is its place in the iteration, from 0."""

    @property
    def again(self) -> bool:
        """Whether it can be iterated more than once."""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """(number for messages, raw item).  Raises Unreadable."""

    def parse(self, number: int, raw: Any) -> Any:
        """The item that the function gets.  Raises BadLine."""

    def count(self) -> int | None:
        """How many items there are, if that can be known cheaply."""

    def is_file(self, path: Path) -> bool:
        """Whether the items are read from just this file."""

    def close(self) -> None:
        """Let go of the file.  Harmless twice."""


class Lines:
    """The lines of a file, or of stdin (``-``): JSON where a line parses as JSON, text otherwise.

    `form` "text" takes every line as it is, "json" makes a line that is not JSON a failed item.  Blank lines are
    skipped, except in "text", where an empty line is an item like any other.  Bytes that are not UTF-8 become
    surrogates, as in file names, so that `open` finds the file that such a line names.
    """

    def __init__(self, name: str, form: str = "auto") -> None:
        self.name = "standard input" if name == "-" else name
        self._form = form
        try:
            self._fd = _standard_input() if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            self._stat = os.fstat(self._fd)
            self.again = stat.S_ISREG(self._stat.st_mode)
            self._start = os.lseek(self._fd, 0, os.SEEK_CUR) if self.again else 0
            if stat.S_ISDIR(self._stat.st_mode):
                os.close(self._fd)
                raise IsADirectoryError(errno.EISDIR, "it is a directory (--glob gives the paths in one)")
        except OSError as error:
            raise Refusal(f"cannot read {self.name}: {error.strerror or error}")

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        keep_blank = self._form == "text"
        try:
            if self.again:
                os.lseek(self._fd, self._start, os.SEEK_SET)
            for number, line in enumerate(_read_lines(self._fd), 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                line = line.removesuffix(b"\r")
                if keep_blank or line.strip():
                    yield number, line
        except OSError as error:
            raise Unreadable(f"cannot read {self.name}: {error.strerror or error}")

    def parse(self, number: int, raw: bytes) -> Any:
        text = raw.decode("utf-8", "surrogateescape")
        if self._form == "text":
            return text
        if self._form == "auto" and text.lstrip()[:1] not in _JSON_STARTS:
            return text
        try:
            return decode(text)
        except (ValueError, RecursionError) as error:
            if self._form == "auto":
                return text
            raise BadLine(f"line {number} of {self.name} is not JSON: {error}") from None

    def count(self) -> int | None:
        if not self.again or self._stat.st_size - self._start > _COUNTABLE:
            return None
        return sum(1 for _ in self)

    def is_file(self, path: Path) -> bool:
        try:
            return os.path.samestat(self._stat, path.stat())
        except OSError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _read_lines(fd: int) -> Iterator[bytes]:
    """The lines without their newlines, each as soon as it is there.

    Without a buffered file, whose lock a thread that waits for input would keep from whoever wants to close it.
    """
    rest = bytearray()
    while True:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:  # somebody made it non-blocking
            select.select([fd], [], [])
            continue
        if not chunk:
            break
        first, newline, more = chunk.partition(b"\n")
        rest += first
        if newline:
            yield bytes(rest)
            *lines, last = more.split(b"\n")
            yield from lines
            rest = bytearray(last)
    if rest:
        yield bytes(rest)


def _standard_input() -> int:
    if sys.stdin is None:
        raise Refusal("standard input is closed: name an input file, or use --glob")
    return os.dup(sys.stdin.fileno())


class Paths:
    """The paths that match one of `patterns` (``**`` goes down any number of directories), sorted, each once.

    As in a shell, names with a leading dot are matched only by a pattern with one, and directories match too.
    `besides` are files of the job itself, which are never its input.
    """

    again = True

    def __init__(self, patterns: Sequence[str], besides: Sequence[Path] = ()) -> None:
        own = {os.path.realpath(path) for path in besides}
        found = {path for pattern in patterns for path in glob.iglob(pattern, recursive=True)}
        self._paths = sorted(path for path in found if not own or os.path.realpath(path) not in own)
        if not self._paths:
            raise Refusal(f"nothing matches {' or '.join(map(repr, patterns))}")

    def __iter__(self) -> Iterator[tuple[int, str]]:
        yield from enumerate(self._paths, 1)

    def parse(self, number: int, raw: str) -> Any:
        return raw

    def count(self) -> int:
        return len(self._paths)

    def is_file(self, path: Path) -> bool:
        return False

    def close(self) -> None:
        pass
