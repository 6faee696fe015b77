"""The store: one LMDB database that several processes change, one transaction at a time.

Every operation is one transaction under one lock, so a process that is killed at any instruction has done all of it or
nothing (LMDB writes new pages beside the old ones, and publishes them by a single store).  See README.md.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile
from threading import get_ident
from typing import Any, TypeVar

from treadle.errors import ManagerClosed
from treadle.shared import memory
from treadle.shared.filelock import FileLock
from treadle.sync.shared import Lock

try:
    import lmdb
except ModuleNotFoundError as error:  # on a free-threaded Python it is not installed along; see setup.py
    text = f"managers store their data with a package that is missing: {error}"
    raise ModuleNotFoundError(text, name="lmdb") from None

__all__ = ["Joined", "Store", "Txn", "listed", "prefixed"]

R = TypeVar("R")

FIRST_BYTES = 256 * 1024  # of a store in memory; it grows when it is full
FILE_BYTES = 1 << 36  # the most that a store in a file can hold: addresses, not memory
PAGE = 4096
_NOBODYS = b"\xff\xff"  # a key that no record has
NOTHING = b"\0\0\0\0"  # the last bytes of a value that contains no shared objects (see `values.py`)


class Txn:
    """What operations need of a transaction: `lmdb.Transaction` has it too, and is used where nothing is joined."""

    get: Callable[[bytes], bytes | None]
    put: Callable[[bytes, bytes], Any]
    delete: Callable[[bytes], Any]
    cursor: Callable[[], lmdb.Cursor[bytes]]


class Joined(Txn):
    """A transaction of several operations: `with store.transaction()`.

    It keeps what it was told, so that it can be played again when the database has to grow in the midst of it, and
    what was there before, so that one operation (or a transaction inside of this one) can be taken back.
    """

    __slots__ = ("_redo", "_store", "_undo", "cursor", "get", "lost", "txn")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._redo: list[tuple[bytes, bytes | None]] = []
        # Invariant: as long as _redo; the values that were there before.
        self._undo: list[tuple[bytes, bytes | None]] = []
        # Set when not even what there was could be played again: nothing of this transaction will be done.
        self.lost: MemoryError | None = None
        self._open()

    def _open(self) -> None:
        self.txn = self._store._begin(write=True)
        self.get = self.txn.get
        self.cursor = self.txn.cursor

    def put(self, key: bytes, value: bytes) -> None:
        self._change(key, value)

    def delete(self, key: bytes) -> bool:
        return self._change(key, None)

    def _change(self, key: bytes, value: bytes | None) -> bool:
        before = self.get(key)
        while True:
            if self.lost is not None:
                raise self.lost
            try:
                if value is not None:
                    self.txn.put(key, value)
                elif before is not None:
                    self.txn.delete(key)
                break
            except lmdb.MapFullError:
                self._again(len(value or b""))
        self._undo.append((key, before))
        self._redo.append((key, value))
        return before is not None

    def _again(self, room: int) -> None:
        """Grow, and play everything again.  MemoryError if it can't grow: then everything is as it was."""
        while True:
            _abort(self.txn)
            full = None
            try:
                self._store._grow(room)
            except MemoryError as error:
                full = error
            self._open()
            try:
                for key, value in self._redo:
                    if value is not None:
                        self.txn.put(key, value)
                    else:
                        self.txn.delete(key)
            except lmdb.MapFullError:
                if full is not None:
                    self.lost = full
                    raise full from None
                room *= 2
                continue
            if full is not None:
                raise full
            return

    def mark(self) -> int:
        """The present point, for `back`."""
        return len(self._undo)

    def back(self, mark: int) -> None:
        """Take back what was done since `mark`."""
        if self.lost is not None:
            return
        undo = self._undo[mark:]
        undo.reverse()
        for key, before in undo:
            if before is not None:
                self.put(key, before)
            else:
                self.delete(key)
        del self._undo[mark:], self._redo[mark:]
        # What was just taken back must not be done when it is played again, and needs no taking back itself; the
        # two lists are cut to where they were.

    def commit(self) -> None:
        while True:
            if self.lost is not None:
                raise self.lost
            try:
                self.txn.commit()
                return
            except lmdb.MapFullError:
                self._again(PAGE)

    def abort(self) -> None:
        _abort(self.txn)


def prefixed(txn: Txn | lmdb.Transaction[bytes], prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Each (key, value) whose key starts with `prefix`, from `prefix + start` on.  Change nothing meanwhile."""
    cursor = txn.cursor()
    if cursor.set_range(prefix + start):
        for key, value in cursor.iternext():
            if not key.startswith(prefix):
                return
            yield key, value


def listed(txn: Txn | lmdb.Transaction[bytes], prefix: bytes) -> list[tuple[bytes, bytes]]:
    """All of `prefixed` at once: quicker, and things may be changed afterwards."""
    cursor = txn.cursor()
    if not cursor.set_range(prefix):
        return []
    return list(takewhile(lambda record: record[0].startswith(prefix), cursor.iternext()))


class Store:
    """One database, as this process sees it.

    Safe to use from any thread, and from a child that was forked at any moment.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        sync: bool = False,
        fd: int | None = None,
        name: str = "",
        lock: Lock | None = None,
    ) -> None:
        """A new one in memory; or the one with that descriptor (and name and lock), or in that file."""
        self.path = path
        self.sync = sync
        self.closed = False
        # The transaction that several operations of one thread join.  Set and cleared by the thread that has the lock.
        self.current: Joined | None = None
        self.current_ident = 0
        self.fd = -1
        self.name = name
        self._stale = False  # forked in the midst of a transaction: the environment must be opened anew
        # What `lifetimes.py` wants to be done: the objects whose last proxy in this process is gone, and by whom they
        # are given back; and what is done after a transaction was taken back.
        self.dropped: deque[int] = deque()
        self.drain: Callable[[], Callable[[Any], None] | None] = _nothing
        self.restore: Callable[[], Callable[[Any], None] | None] = _nothing
        # Grows whenever something was taken back: what a process remembers of the store's contents may be wrong then.
        self.epoch = 0
        if path is not None:
            # LMDB wants the file to be empty or its own; made here so that there is something to lock.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
            self.lock: Any = FileLock(path)
            self.shared_lock: Lock | None = None
        else:
            if fd is None:
                fd, self.name = memory.create("manager")
            self.fd = fd
            # Its owner's death means nothing: what it guards is never half changed.
            self.lock = self.shared_lock = lock or Lock(name=self.name, on_owner_death="ignore")
        try:
            with self.lock:
                self._open()
        except BaseException:
            self._release()
            raise

    # -- the environment ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Under the lock."""
        options: dict[str, Any] = {"subdir": False, "lock": False, "readahead": False, "max_dbs": 0}
        if self.path is not None:
            self.env = lmdb.open(self.path, map_size=FILE_BYTES, sync=self.sync, metasync=self.sync, **options)
        else:
            size = os.fstat(self.fd).st_size
            # The memory is reserved before LMDB uses it, so writing through the map can't fail.
            self.env = lmdb.open(
                f"/proc/self/fd/{self.fd}", map_size=size or FIRST_BYTES, sync=False, metasync=False, writemap=True,
                meminit=False, **options,
            )  # fmt: skip
            if not size:
                memory.reserve(self.fd, FIRST_BYTES)
        self._start: Callable[..., lmdb.Transaction[bytes]] = self.env.begin

    def _begin(self, write: bool) -> lmdb.Transaction[bytes]:
        """Under the lock.  Adopts what other processes have added."""
        while True:
            try:
                return self._start(write=write)
            except lmdb.MapResizedError:
                self._map(os.fstat(self.fd).st_size)

    def _map(self, size: int) -> None:
        """Under the lock, with no transaction open: let LMDB map so much.  MemoryError if there is no room for that.

        LMDB gives its old map up before it asks for the new one, and can't go on if it doesn't get it.
        """
        memory.room_for(size)
        self.env.set_mapsize(size)

    def _grow(self, room: int) -> None:
        """Under the lock, with no transaction open: have space for `room` more bytes.  MemoryError if there is none."""
        if self.path is not None:
            raise MemoryError(f"{self.path} is full: it may have {FILE_BYTES} bytes")
        size = os.fstat(self.fd).st_size
        if size <= self.env.info()["map_size"]:
            least = size + 2 * room + 64 * PAGE
            for wanted in (max(2 * size, least), least):
                with contextlib.suppress(MemoryError):
                    memory.room_for(wanted)
                    memory.reserve(self.fd, -(-wanted // PAGE) * PAGE)
                    break
            else:
                raise MemoryError(f"the manager's {size} bytes are full, and there is no memory for more")
        self._map(os.fstat(self.fd).st_size)

    def _turn(self) -> None:
        """Under the lock, with no transaction open: commit something, which leaves no trace.

        What a transaction frees, LMDB gives to the second one after it: so who has made room has it now.
        """
        txn = self._begin(write=True)
        try:
            txn.put(_NOBODYS, b"")
            txn.delete(_NOBODYS)
            txn.commit()
        except lmdb.Error:  # not even a few pages are left
            _abort(txn)

    # -- operations -----------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """One record."""
        if self.current is not None and self.current_ident == get_ident():
            return self.current.get(key)
        with self.lock:
            try:
                txn = self._start()
            except lmdb.Error:
                txn = self._begin(write=False)
            try:
                return txn.get(key)
            finally:
                txn.abort()
                del txn  # under the lock, for its end touches the environment

    def replace(self, key: bytes, data: bytes, keep: int) -> bool:
        """The quick way to change a record that is there, and whose value contains no shared objects: `data` takes the
        place of all but the last `keep` bytes.  False if it has to be done in the long way: then nothing was done.
        """
        if self.current is not None or self.dropped:
            return False
        with self.lock:
            try:
                txn = self._start(None, None, True)
            except lmdb.Error:
                return False
            try:
                old = txn.get(key)
                if old is not None and old.endswith(NOTHING):
                    txn.put(key, data + old[-keep:])
                    txn.commit()
                    return True
                txn.abort()
            except lmdb.Error:
                _abort(txn)
            except BaseException:
                _abort(txn)
                raise
            finally:
                del txn
        return False

    def read(self, op: Callable[..., R], /, *args: Any) -> R:
        """`op(transaction, ...)`, which changes nothing."""
        if self.current is not None and self.current_ident == get_ident():
            return op(self.current, *args)
        with self.lock:
            txn = self._begin(write=False)
            try:
                return op(txn, *args)
            finally:
                txn.abort()
                del txn

    def write(self, op: Callable[..., R], /, *args: Any) -> R:
        """`op(transaction, ...)`: all of it, or nothing if it raises.  It may be called again if memory runs out."""
        if self.current is not None and self.current_ident == get_ident():
            mark = self.current.mark()
            try:
                return op(self.current, *args)
            except BaseException:
                self.epoch += 1
                self.current.back(mark)
                raise
        with self.lock:
            result = self.exchange(op, *args)
            if self.dropped:
                self.tidy()
            return result

    def tidy(self) -> None:
        """Under the lock: give back what was dropped."""
        drain = self.drain()
        if drain is not None:
            self.exchange(drain)

    def exchange(self, op: Callable[..., R], /, *args: Any) -> R:
        """`write`, for one who has the lock and no transaction."""
        room, turned = PAGE, False
        while True:
            txn = None
            try:
                try:
                    txn = self._start(None, None, True)
                except lmdb.Error:
                    txn = self._begin(write=True)
                result = op(txn, *args)
                txn.commit()
                return result
            except lmdb.MapFullError:
                if txn is not None:
                    _abort(txn)
                self.epoch += 1
                try:
                    self._grow(room)
                    room *= 2
                except MemoryError:
                    if turned:
                        raise
                    turned = True
                    self._turn()
            except BaseException as error:
                self.epoch += 1
                if txn is not None:
                    _abort(txn)
                if isinstance(error, lmdb.Error):
                    raise _plain(error) from error
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that this thread does to the store in the block happens at once at its end, or not at all."""
        joined = self.current
        if joined is not None and self.current_ident == get_ident():
            mark = joined.mark()
            try:
                yield
            except BaseException:
                self.epoch += 1
                joined.back(mark)
                raise
            return
        with self.lock:
            joined = Joined(self)
            try:
                self.current_ident = get_ident()
                self.current = joined
                try:
                    yield
                finally:
                    self.current = None
                joined.commit()
            except BaseException:
                joined.abort()
                self.epoch += 1
                restore = self.restore()
                if restore is not None:
                    self.exchange(restore)
                raise
            if self.dropped:
                self.tidy()

    def inside(self) -> bool:
        """Is this thread in a transaction of this store?"""
        return self.current is not None and self.current_ident == get_ident()

    # -- forks, and the end ---------------------------------------------------------------------------------------

    def forked(self, reopen: bool) -> None:
        """In a forked child."""
        if hasattr(self.lock, "forked"):
            self.lock.forked()
        self.current = None
        self._stale = reopen

    def reopen(self) -> None:
        """In a forked child, under the lock: have an environment without its parent's transaction."""
        if self._stale:
            self.env.close()
            self._open()
            self._stale = False

    def close(self) -> None:
        """In this process.  Others go on; the memory is freed with the last of them."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            if self.path is not None:
                self.env.sync(True)
            self.env.close()
        self._release()

    def _release(self) -> None:
        lock, self.lock = self.lock, _Closed()
        if hasattr(lock, "close"):
            lock.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        try:
            if not self.closed:
                self.closed = True
                self.env.close()
                self._release()
        except Exception:  # at the end of the program there may be nothing left to do it with
            pass


def _abort(txn: lmdb.Transaction[bytes]) -> None:
    """End it, whatever state it is in: a commit that fails may have ended it already."""
    with contextlib.suppress(lmdb.Error):
        txn.abort()


def _nothing() -> None:
    return None


class _Closed:
    """Stands for the lock of a store that this process has let go."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        raise ManagerClosed("the manager was shut down in this process")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        pass


def _plain(error: lmdb.Error) -> Exception:
    """LMDB's word for a failing disk as Python's."""
    code = getattr(error, "code", 0)
    return OSError(code, os.strerror(code)) if isinstance(code, int) and code > 0 else error
