"""Recorder: begins a recording of the whole session, and leaves the file that was asked for.

While it records, the file is the recording itself, in the native core's own form; in the end the trace-event JSON takes
its place in one step.  So at no moment, whatever is killed, is there a file that `treadle trace` can't read.

A session records once at a time.  Who wants a second one at the same time reads the first one's file along.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import mmap
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .._native import _core, board_path
from .events import render
from .raw import MAGIC

LIMIT = 1 << 30  # bytes of a recording; what comes then is counted, and said in the end

_lock = threading.Lock()  # guards: _shared, _live.  A leaf
_shared: _Shared | None = None
_live: list[Recorder] = []  # not finished


class _Shared:
    """The recording that this process has begun, for all its recorders."""

    # Invariant: outside of `_lock`, one without users is stopped, closed, and not in `_shared` any more.

    def __init__(self, id: int, descriptor: int) -> None:
        self.id = id
        self.descriptor = descriptor
        self.users: set[Recorder] = set()


class Recorder:
    """Records from now until `finish`, into the file `path`.

    Raises OSError where that can't be written, ValueError where it is something else than a trace: no file of another
    kind is overwritten.  `title` is what this process is called in it if it has no name yet.  Thread-safe.  In a forked
    child it does nothing: the recording is the parent's.
    """

    def __init__(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        self.path = Path.cwd() / path
        self.dropped = 0  # records that found no room; known when it is finished
        self._pid = os.getpid()
        self._finishing = threading.Lock()  # held while the file is written: who comes second waits for the first
        self._finished = False
        self._end: int | None = None  # monotonic ns; None while it records
        check(self.path)
        _core.trace_title(title or _title(), True)
        with _lock:
            self._shared: _Shared | None = _join(self.path)
            if self._shared is None:
                self._descriptor = _open_theirs()
            else:
                self._descriptor = os.dup(self._shared.descriptor)
                self._shared.users.add(self)
            _live.append(self)
        self._begin = time.monotonic_ns()

    def stop(self) -> None:
        """What happens from now on is not for this file.  Idempotent; takes no time."""
        global _shared
        if self._pid != os.getpid():
            return
        # Every step may be the last before a Ctrl-C, so each may be done again.
        with _lock:
            if self._end is None:
                self._end = time.monotonic_ns()
            shared = self._shared
            if shared is None:
                return
            shared.users.discard(self)
            if not shared.users:
                _core.trace_stop(shared.id)
                if _shared is shared:
                    _shared = None
                descriptor, shared.descriptor = shared.descriptor, -1
                if descriptor >= 0:
                    os.close(descriptor)
            self._shared = None

    def finish(self) -> None:
        """Stop, and write the file.  Returns when it is written; OSError if it can't be.  Idempotent.

        Where this is not called, the end of the program does it.
        """
        if self._pid != os.getpid():
            return
        self.stop()
        with self._finishing:
            if self._finished:
                return
            assert self._end is not None
            self._write(self._end)
            self._finished = True
            # First: a child that is forked meanwhile closes what stands there.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        with _lock:
            _live.remove(self)

    def _write(self, end: int) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        program = " ".join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])
        about = {"program": program[:500], "pid": self._pid}
        with contextlib.ExitStack() as undo:
            data = undo.enter_context(_mapped(self._descriptor))
            undo.callback(temporary.unlink, missing_ok=True)
            with open(temporary, "wb") as file:
                for piece in render(data, self._begin, end, alive=process_lives, about=about, names=_names()):
                    file.write(piece)
            with contextlib.suppress(OSError):
                temporary.chmod(stat.S_IMODE(self.path.stat().st_mode))
            temporary.replace(self.path)
            self.dropped = int.from_bytes(data[48:56], "little")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()


@contextlib.contextmanager
def _mapped(descriptor: int) -> Any:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as memory, memoryview(memory) as data:
        yield data


def process_lives(pid: int, start: int) -> bool:
    """Does the process live that is this pid and began at `start`?"""
    return start != 0 and _core.process_start(pid) == start


def read(path: Path) -> str | None:
    """A recording that is not finished, or will never be, as trace-event JSON; None if the file is something else."""
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
        with _mapped(file.fileno()) as data:
            return b"".join(render(data, alive=process_lives, about={"unfinished": True})).decode()


def check(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if there is a file that is no trace, OSError where none can be made."""
    if not os.access(Path(path).parent, os.W_OK | os.X_OK):
        code = errno.EACCES if Path(path).parent.is_dir() else errno.ENOENT
        raise OSError(code, os.strerror(code), os.fspath(path))
    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, "a file's name is needed", "")
    try:
        if is_special(Path(path)):
            raise ValueError("a trace goes into an ordinary file, and this is none")
        with open(path, "rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        return
    if start and not start.startswith(MAGIC) and not start.lstrip().startswith((b"{", b"[")):
        raise ValueError("that file exists and is no trace: it is not overwritten")


def is_special(path: Path) -> bool:
    """Is it there, and neither a file nor a folder?  Who opens a pipe waits for its other end, and can read it once."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _create(path: Path) -> int:
    """A new file of that name; who has the old one mapped keeps it."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _join(path: Path) -> _Shared | None:
    """The recording of this process, a new one if the session has none; None if it has one of another process."""
    global _shared
    if _shared is not None:
        place = _core.trace_place()
        if place is not None and place[0] == _shared.id:
            return _shared
    elif _core.trace_place() is not None:
        return None
    descriptor = _create(path)
    try:
        id = _core.trace_start(descriptor, LIMIT)
    except OSError:
        os.close(descriptor)
        raise
    if id == 0:  # another process of the session was faster
        os.close(descriptor)
        return None
    _shared = _Shared(id, descriptor)
    return _shared


def _open_theirs() -> int:
    """The file of another process's recording, to be read."""
    place = _core.trace_place()
    if place is None:
        raise BlockingIOError("another process of this session began and ended a recording just now; try again")
    return os.open(board_path(*place[1:]), os.O_RDONLY | os.O_CLOEXEC)


def _names() -> dict[int, str]:
    """Threads that have recorded nothing may own what others waited for."""
    return {
        record["token"]: record["name"] or f"thread {record['tid']} of process {record['pid']}"
        for record in _core.board_read(None)
    }


def _title() -> str:
    """What this process is called: the program's name."""
    argv = [word for word in getattr(sys, "argv", ()) if word] or ["python"]
    return Path(argv[0]).name if argv[0] not in ("-c", "-m") else f"python {argv[0]}"


def _at_exit() -> None:
    for recorder in tuple(_live):  # a finished one leaves it
        try:
            recorder.finish()
        except (OSError, ValueError) as error:
            print(f"treadle: the trace {recorder.path} could not be written: {error}", file=sys.stderr)
        else:
            if recorder.dropped:
                print(f"treadle: the trace {recorder.path} is full: what came later is not in it", file=sys.stderr)


def _in_child() -> None:
    global _lock, _shared
    _lock = threading.Lock()
    shared, _shared = _shared, None
    for descriptor in [recorder._descriptor for recorder in _live] + ([shared.descriptor] if shared else []):
        if descriptor >= 0:
            os.close(descriptor)
    _live.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_child)
