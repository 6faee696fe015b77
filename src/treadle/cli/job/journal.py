"""The output file.  It is also the journal: an item is done if, and only if, its whole line stands there.

A line is ``{"index": 3, "input": "x", "result": 42}`` and a newline, written by one call of write().  So the file can
be broken in one way only by a kill or a full disk: the last line is torn.  That is cut off.  Anything else that is
not such a line was not written here, and is refused with its line number, never dropped in silence.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

from treadle.cli.job.codec import decode, decode_prefix, encode
from treadle.cli.job.files import LineFile, replacement
from treadle.cli.problems import Refusal

__all__ = ["Journal", "Done", "fingerprint", "may_be_torn", "result_line"]

_HEAD = b'{"index": '


def fingerprint(encoded_input: bytes) -> int:
    """64 bits that tell two inputs apart, within this process."""
    return hash(encoded_input)


def result_line(index: int, encoded_input: bytes, encoded_result: bytes) -> bytes:
    """The line of one done item.  `_parse` is its counterpart."""
    return b'{"index": %d, "input": %b, "result": %b}\n' % (index, encoded_input, encoded_result)


@dataclass(slots=True)
class Done:
    """The items whose results stand in a journal: 24 bytes each, sorted by index."""

    # Invariant: the three have the same length; indexes ascend, each once.
    indexes: array[int] = field(default_factory=lambda: array("q"))
    prints: array[int] = field(default_factory=lambda: array("q"))  # fingerprints of their inputs
    offsets: array[int] = field(default_factory=lambda: array("q"))  # of their lines in the file
    in_order: bool = True  # the file itself has them in this order

    def __len__(self) -> int:
        return len(self.indexes)

    def __contains__(self, index: int) -> bool:
        place = bisect_left(self.indexes, index)
        return place < len(self.indexes) and self.indexes[place] == index

    @property
    def last(self) -> int:
        """The largest index, -1 if there is none."""
        return self.indexes[-1] if self.indexes else -1

    def add(self, index: int, print_: int, offset: int) -> None:
        """Take up one line; `sort` must follow the last one."""
        if self.indexes and index <= self.indexes[-1]:
            self.in_order = False
        self.indexes.append(index)
        self.prints.append(print_)
        self.offsets.append(offset)

    def sort(self) -> int | None:
        """Restore the invariant; an index that is there twice is returned, and is an error."""
        if self.in_order:
            return None
        order = sorted(range(len(self.indexes)), key=self.indexes.__getitem__)
        for column in (self.indexes, self.prints, self.offsets):
            column[:] = array("q", map(column.__getitem__, order))
        return next((a for a, b in zip(self.indexes, self.indexes[1:], strict=False) if a == b), None)


class Journal:
    """The output file of one job, open and locked by its maker."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._last = -1  # the largest index in the file
        self._in_order = True
        self.done = Done()

    def load(self) -> None:
        """Learn what is done, and cut off a torn last line.  Raises Refusal, and then the file is as it was."""
        self.done, size = _scan(self._file)
        if size < self._file.size:
            self._file.cut(size)
        self._in_order = self.done.in_order
        self._last = self.done.last

    def add(self, index: int, encoded_input: bytes, encoded_result: bytes) -> None:
        """Write the line of one item.  Raises Unwritable, and then the file is as it was."""
        self._file.append(result_line(index, encoded_input, encoded_result))
        if index < self._last:
            self._in_order = False
        else:
            self._last = index

    def input_at(self, index: int) -> bytes:
        """The input of a done item, encoded."""
        place = bisect_left(self.done.indexes, index)
        offset = self.done.offsets[place]
        for _, line in self._file.lines(offset):
            return _parse(line)[1]
        raise LookupError(index)

    def sort(self) -> None:
        """Put the lines in the order of their indexes, if they are not.  Raises Unwritable: then nothing changed."""
        if self._in_order:
            return
        done, _ = _scan(self._file)
        ends = dict(zip(sorted(done.offsets), [*sorted(done.offsets)[1:], self._file.size], strict=True))
        with replacement(self._file) as new:
            new.extend(self._file.read(offset, ends[offset] - offset) for offset in done.offsets)
        self._file.close()
        self._file = new
        self._in_order = True

    def sync(self) -> None:
        """Wait until the disk has everything.  Raises Unwritable."""
        self._file.sync()

    def close(self) -> None:
        """Close and unlock.  Harmless twice."""
        self._file.close()


def _scan(file: LineFile) -> tuple[Done, int]:
    """What a journal holds, and the length of its whole lines.  Raises Refusal if it is not a journal."""
    done = Done()
    size = 0
    for number, (offset, line) in enumerate(file.lines(), 1):
        if not line.endswith(b"\n"):
            if not may_be_torn(line):
                raise Refusal(f"{file.path} does not end like an output of treadle map, so it is left as it is")
            break
        try:
            index, encoded_input = _parse(line)
            done.add(index, fingerprint(encoded_input), offset)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            raise Refusal(
                f"line {number} of {file.path} is damaged, or not of treadle map; "
                f"delete that line (only its item is run again) or start anew with --overwrite"
            )
        size = offset + len(line)
    twice = done.sort()
    if twice is not None:
        raise Refusal(f"{file.path} has index {twice} twice; delete one of the two lines")
    return done, size


def may_be_torn(line: bytes) -> bool:
    """Whether a last line without a newline is the beginning of one of ours (or a hole that a power cut left)."""
    return line.startswith(_HEAD) or _HEAD.startswith(line) or not line.strip(b"\0")


def _parse(line: bytes) -> tuple[int, bytes]:
    """(index, encoded input) of a whole line; the result is checked too.  Raises ValueError and its kin."""
    text = line.decode("utf-8")
    if text.startswith('{"index": '):  # as `result_line` makes it: the input's text needs no encoding again
        index, end = decode_prefix(text, 10)
        if text.startswith(', "input": ', end):
            begin = end + 11
            _, end = decode_prefix(text, begin)
            if text.startswith(', "result": ', end):
                encoded = text[begin:end]
                _, end = decode_prefix(text, end + 12)
                if text[end:] == "}\n":
                    return _checked(index), encoded.encode()
    record = decode(text)  # somebody has formatted it anew
    record["result"]
    return _checked(record["index"]), encode(record["input"])


def _checked(index: object) -> int:
    if type(index) is not int or index < 0:
        raise ValueError("not an index")
    return index
