"""Two ways of changing a file that a kill at any moment leaves readable: append one whole line, replace it whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Iterable, Iterator
from pathlib import Path

from treadle.cli.problems import Refusal, Unwritable

__all__ = ["LineFile", "lock", "remove", "replacement", "write_all"]

_CHUNK = 1 << 18  # bytes
_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, in one write() unless the system takes less at a time.  Raises OSError."""
    done = 0
    while done < len(data):
        try:
            done += os.write(fd, data[done:] if done else data)
        except BlockingIOError:  # a pipe or terminal that somebody made non-blocking
            select.select([], [fd], [])


class LineFile:
    """A regular file that grows by whole lines.

    Each line is one write(): once `append` has returned, the line survives a kill of this process.  It is not
    synced to the disk, so it need not survive a power cut; `sync` does that.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        # Invariant: `size` is the length of the file, and the end of a line (after `cut` where it was not).
        self.size = os.fstat(fd).st_size

    @classmethod
    def open(cls, path: Path) -> LineFile:
        """Open for reading and appending; made if missing.  Raises Unwritable."""
        try:
            return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666))
        except OSError as error:
            raise Unwritable(str(path), error)

    def append(self, line: bytes) -> None:
        """Add one line.  Raises Unwritable, and then the file ends as it did before."""
        try:
            write_all(self.fd, line)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise Unwritable(str(self.path), error)
        self.size += len(line)

    def cut(self, size: int) -> None:
        """Drop everything after the first `size` bytes.  Raises Unwritable."""
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise Unwritable(str(self.path), error)
        self.size = size

    def extend(self, lines: Iterable[bytes]) -> None:
        """Add many lines, with few calls of write().  Raises Unwritable, and then the end may be torn."""
        buffer = bytearray()
        for line in lines:
            buffer += line
            if len(buffer) >= _CHUNK:
                self.append(bytes(buffer))
                buffer.clear()
        self.append(bytes(buffer))

    def lines(self, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, line with its newline) from `offset` on; the last may lack the newline."""
        with open(os.dup(self.fd), "rb") as file:
            file.seek(offset)
            for line in file:
                yield offset, line
                offset += len(line)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`."""
        return os.pread(self.fd, size, offset)

    def sync(self) -> None:
        """Wait until the disk has it all.  Raises Unwritable."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise Unwritable(str(self.path), error)

    def close(self) -> None:
        """Close, which also unlocks.  Harmless twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def lock(file: LineFile) -> None:
    """Keep every other treadle away from `file` until it is closed.  Raises Refusal if one is there already."""
    try:
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refusal(f"another treadle is writing {file.path} at this moment")
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:  # some network file systems have no locks: go on without
            raise Unwritable(str(file.path), error)


@contextlib.contextmanager
def replacement(old: LineFile) -> Iterator[LineFile]:
    """A new file which takes the place of `old` at once when the block ends well, and vanishes when it does not.

    The new one is locked before it gets the name, so there is no moment in which another treadle could come between.
    Raises Unwritable.
    """
    path = old.path.with_name(f".{old.path.name}.new")
    remove(path)  # left by a kill
    new = LineFile.open(path)
    try:
        lock(new)
        with _as_unwritable(path):
            os.fchmod(new.fd, os.fstat(old.fd).st_mode & 0o7777)
        yield new
        new.sync()
        with _as_unwritable(old.path):
            path.replace(old.path)
        new.path = old.path
        _sync_directory(old.path.parent)
    except BaseException:
        new.close()
        if new.path == path:
            remove(path)
        raise


def remove(path: Path) -> None:
    """Delete the file if it is there.  Raises Unwritable."""
    with _as_unwritable(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _as_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(str(path), error)


def _sync_directory(path: Path) -> None:
    """Make a rename in `path` durable, where the file system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
