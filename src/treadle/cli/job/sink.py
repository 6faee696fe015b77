"""Where results and failures go: a journal and an error file, or a stream and stderr."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from treadle.cli.job.codec import shown
from treadle.cli.job.failures import Failures, describe, path_beside
from treadle.cli.job.files import LineFile, lock, write_all
from treadle.cli.job.journal import Done, Journal, result_line
from treadle.cli.problems import Refusal, Unwritable

__all__ = ["Files", "Sink", "Stream", "open_sink"]


class Sink(Protocol):
    """Takes what the job yields.  Every method raises Unwritable (Stream: BrokenPipeError too)."""

    @property
    def done(self) -> Done:
        """What earlier runs have written."""

    @property
    def reach(self) -> int:
        """How many items the input must have at least: one more than the largest index of earlier runs."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def result(self, index: int, encoded_input: bytes, encoded_result: bytes) -> None:
        """Take the result of one item."""

    def failed(self, index: int, encoded_input: bytes, error: BaseException) -> None:
        """Take the failure of one item.  May be called by another thread than `result`."""

    def input_at(self, index: int) -> bytes:
        """The encoded input of a done item."""

    def finish(self, sort: bool) -> None:
        """The end of the job, or an orderly stop; `sort` puts the results in the order of the input."""

    def close(self) -> None:
        """Let go of the files.  Harmless twice."""


class Files:
    """The output file, which is the journal, and the error file beside it."""

    def __init__(self, path: Path, *, resume: bool, overwrite: bool) -> None:
        """Open, lock, and learn what is done.  Raises Refusal or Unwritable, and then nothing was changed."""
        self.name = str(path)
        # Replacing the file must not replace a symbolic link to it.
        real = Path(os.path.realpath(path)) if path.is_symlink() else path
        file = _open_locked(real)
        self._journal = Journal(file)
        try:
            self.failures = Failures(path_beside(path))
        except BaseException:
            file.close()
            raise
        try:
            if overwrite:
                self.failures.clear()
                file.cut(0)
            elif resume:
                self._journal.load()
                self.failures.load(self._journal.done.__contains__)
            elif file.size or self.failures.size:
                raise Refusal(f"{path} has results already: --resume goes on with them, --overwrite starts anew")
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> Done:
        return self._journal.done

    @property
    def reach(self) -> int:
        return 1 + max(self._journal.done.last, self.failures.last)

    def result(self, index: int, encoded_input: bytes, encoded_result: bytes) -> None:
        self._journal.add(index, encoded_input, encoded_result)
        self.failures.recovered(index)

    def failed(self, index: int, encoded_input: bytes, error: BaseException) -> None:
        self.failures.add(index, encoded_input, error)

    def input_at(self, index: int) -> bytes:
        return self._journal.input_at(index)

    def finish(self, sort: bool) -> None:
        """Make both files final: compact, in order, and on the disk.  Raises Unwritable; both stay valid."""
        self.failures.compact()
        self.failures.sync()
        if sort:
            self._journal.sort()
        self._journal.sync()

    def close(self) -> None:
        self.failures.close()
        self._journal.close()


class Stream:
    """Results to a stream (stdout, a pipe, a device), failures as a plain line each to `note`."""

    def __init__(self, fd: int, name: str, note: Callable[[str], None], *, own: bool) -> None:
        """`own` says whether `close` closes `fd`."""
        self.name = name
        self.done = Done()
        self.reach = 0
        self._fd = fd
        self._own = own
        self._note = note

    def result(self, index: int, encoded_input: bytes, encoded_result: bytes) -> None:
        try:
            write_all(self._fd, result_line(index, encoded_input, encoded_result))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(self.name, error)

    def failed(self, index: int, encoded_input: bytes, error: BaseException) -> None:
        about = describe(error)
        attempts = "" if about["attempts"] in (0, 1) else f" ({about['attempts']} attempts)"
        message = " ".join(str(about["message"]).split())
        self._note(f"treadle map: item {index}, {shown(encoded_input)}, failed: {about['type']}: {message}{attempts}")

    def input_at(self, index: int) -> bytes:
        raise LookupError(index)

    def finish(self, sort: bool) -> None:
        pass

    def close(self) -> None:
        if self._own:
            os.close(self._fd)
            self._own = False


def open_sink(output: str | None, *, resume: bool, overwrite: bool, note: Callable[[str], None]) -> Sink:
    """The sink for the option ``-o`` (None: stdout).  Raises Refusal or Unwritable."""
    if output in (None, "-", "/dev/stdout"):
        if resume or overwrite:
            raise Refusal("--resume and --overwrite need an output file: give one with -o")
        if sys.stdout is None:
            raise Refusal("standard output is closed: name an output file with -o")
        sys.stdout.flush()
        return Stream(sys.stdout.fileno(), "standard output", note, own=False)
    path = Path(str(output))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise Refusal(f"cannot write {output}: {error.strerror}")
    if stat.S_ISDIR(mode):
        raise Refusal(f"cannot write {output}: it is a directory")
    if not path.absolute().parent.is_dir():
        raise Refusal(f"cannot write {output}: there is no directory {path.parent}")
    if stat.S_ISREG(mode):
        return Files(path, resume=resume, overwrite=overwrite)
    if resume:
        raise Refusal(f"{output} is not a regular file, so there is nothing in it to resume from")
    try:
        return Stream(os.open(path, os.O_WRONLY | os.O_CLOEXEC), str(output), note, own=True)
    except OSError as error:
        raise Unwritable(output, error)


def _open_locked(path: Path) -> LineFile:
    """Open `path` and lock it.  Raises Refusal or Unwritable."""
    for _ in range(100):
        file = LineFile.open(path)
        try:
            lock(file)
            if path.exists() and os.path.samestat(os.fstat(file.fd), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last owner replaced it just before it let go: take the new one
    raise Refusal(f"other programs keep replacing {path}")
