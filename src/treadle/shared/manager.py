"""`Manager()`: makes objects that several processes share, without a server process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from multiprocessing.managers import SyncManager
from types import TracebackType
from typing import Any, ClassVar

from treadle.errors import ManagerClosed
from treadle.queues.shared import JoinableQueue
from treadle.shared import locks
from treadle.shared.cells import ArrayProxy, ValueProxy
from treadle.shared.dicts import DictProxy, NamespaceProxy
from treadle.shared.lists import ListProxy
from treadle.shared.proxy import proxy_of
from treadle.shared.sets import SetProxy
from treadle.shared.space import Space
from treadle.sync import shared as sync

__all__ = ["Manager"]

_Names = list[str]  # inside of the class, `list` and `dict` are methods
_Keywords = dict[str, Any]


class Manager:
    """Makes dicts, lists and other objects that any number of processes share.

    A drop-in for `multiprocessing.Manager()`, but there is no server process: the objects are in memory that all the
    processes see, each method is one transaction on it, and a process killed at any instruction has done it all or
    nothing.  The memory goes with the last process that uses it.

    With a `path` the objects are in that file, and last; several programs may open it at the same time.  What shall be
    found again has a name: `Manager(path).dict(name="cache")` makes it, or opens what has that name.  A killed process
    loses nothing that it has done; that a crash of the whole machine doesn't either is true for `sync=True`, at the
    price of a write to the disk for each change.
    """

    _registered: ClassVar[type[SyncManager]] = SyncManager

    def __init__(self, path: str | os.PathLike[str] | None = None, *, sync: bool = False, ctx: Any = None) -> None:
        self._space = Space.new() if path is None else Space.file(os.fspath(path), sync)
        self._ctx = ctx  # for the server process, if one is needed
        self._guard = threading.Lock()
        self._server: SyncManager | None = None

    # -- objects ----------------------------------------------------------------------------------------------------

    def dict(self, /, *args: Any, **kwds: Any) -> DictProxy:
        """A shared dict.  In a file, with a `name`: the one that has it, or a new one.

        In memory `name` is an item like all others, as in the standard library.
        """
        name = self._name_in(kwds)
        first = dict(*args, **kwds)
        return self._make(DictProxy, DictProxy._put_all, DictProxy._dumped, first.items(), name)  # type: ignore[no-any-return]

    def list(self, sequence: Iterable[Any] = (), /, *, name: str | None = None) -> ListProxy:
        """A shared list."""
        return self._make(ListProxy, ListProxy._append, ListProxy._dumped, sequence, name)  # type: ignore[no-any-return]

    def set(self, values: Iterable[Any] = (), /, *, name: str | None = None) -> SetProxy:
        """A shared set."""
        return self._make(SetProxy, SetProxy._add, SetProxy._named, values, name)  # type: ignore[no-any-return]

    def Namespace(self, /, **attributes: Any) -> NamespaceProxy:
        """Shared attributes.  In a file, `name` is the namespace's own; an attribute of that name is set later."""
        name = self._name_in(attributes)
        made = self._make(NamespaceProxy, NamespaceProxy._put_all, NamespaceProxy._dumped, attributes.items(), name)
        return made  # type: ignore[no-any-return]

    def Value(self, typecode: str, value: Any, lock: object = True, *, name: str | None = None) -> ValueProxy:
        """A shared value."""
        return ValueProxy._make(self._open_space(), typecode, value, name)

    def Array(
        self, typecode: str, sequence: Iterable[Any], lock: object = True, *, name: str | None = None
    ) -> ArrayProxy:
        """A shared `array.array`."""
        return ArrayProxy._make(self._open_space(), typecode, sequence, name)

    # -- locks and queues: those of `treadle.sync.shared` and `treadle.queues.shared` -------------------------------

    def Lock(self) -> locks.Lock:
        """A lock for all threads of all processes; see `treadle.sync.shared`."""
        self._open_space()
        return locks.Lock()

    def RLock(self) -> locks.RLock:
        """A recursive lock; see `treadle.sync.shared`."""
        self._open_space()
        return locks.RLock()

    def Semaphore(self, value: int = 1) -> locks.Semaphore:
        """A semaphore; see `treadle.sync.shared`."""
        self._open_space()
        return locks.Semaphore(value)

    def BoundedSemaphore(self, value: int = 1) -> locks.BoundedSemaphore:
        """A semaphore that can't be released too often; see `treadle.sync.shared`."""
        self._open_space()
        return locks.BoundedSemaphore(value)

    def Condition(self, lock: Any = None) -> locks.Condition:
        """A condition; `lock` is a Lock or RLock of a manager.  See `treadle.sync.shared`."""
        self._open_space()
        return locks.Condition(lock)

    def Event(self) -> sync.Event:
        """An event; see `treadle.sync.shared`."""
        self._open_space()
        return sync.Event()

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> sync.Barrier:
        """A barrier; see `treadle.sync.shared`."""
        self._open_space()
        return sync.Barrier(parties, action, timeout)

    def Queue(self, maxsize: int = 0) -> JoinableQueue[Any]:
        """A queue, with `task_done` and `join`; see `treadle.queues.shared`."""
        self._open_space()
        return JoinableQueue(maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> JoinableQueue[Any]:
        """The same as `Queue`."""
        return self.Queue(maxsize)

    # -- what needs a server: pools, and types of the user ----------------------------------------------------------

    def Pool(self, *args: Any, **kwds: Any) -> Any:
        """A `multiprocessing.Pool` that several processes use.  Starts a server process, as the stdlib's manager."""
        return self._server_manager().Pool(*args, **kwds)

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: Any = None,
        create_method: bool = True,
    ) -> None:
        """As `multiprocessing.managers.BaseManager.register`: objects of such types live in a server process, which is
        started when the first of them is made."""
        if "_registered" not in cls.__dict__:
            cls._registered = type("Registered", (cls._registered,), {})
        registered = cls._registered
        registered.register(typeid, callable, proxytype, exposed, method_to_typeid, create_method)
        if create_method:

            def make(self: Manager, /, *args: Any, **kwds: Any) -> Any:
                return getattr(registered, typeid)(self._server_manager(), *args, **kwds)

            make.__name__ = typeid
            setattr(cls, typeid, make)

    def _server_manager(self) -> SyncManager:
        self._open_space()
        with self._guard:
            if self._server is None:
                server = SyncManager(ctx=self._ctx)
                # The class `Registered` can't be found by name in another process, but its contents are all it needs.
                server._registry = dict(self._registered._registry)  # type: ignore[attr-defined]
                if self._ctx is not None:  # the pool of who made this manager, not the standard library's
                    _, *proxies = server._registry["Pool"]  # type: ignore[attr-defined]
                    server._registry["Pool"] = (self._ctx.Pool, *proxies)  # type: ignore[attr-defined]
                server.start()
                self._server = server
            return self._server

    def _name_in(self, keywords: _Keywords) -> str | None:
        """What `name=` says, where it is not an item."""
        if self._space.store.path is None:
            return None
        name = keywords.pop("name", None)
        if name is not None and not isinstance(name, str):
            raise TypeError("the name of a shared object is a str")
        return name

    def _make(
        self, cls: Any, fill: Callable[..., None], dumped: Callable[..., Any], first: Iterable[Any], name: str | None
    ) -> Any:
        space = self._open_space()
        items = dumped(space, first)

        def put(txn: Any, number: int) -> None:
            if items:
                fill(cls(space, space.life.hold(txn, number)), txn, items)

        return cls._create(space, put, name)

    # -- names ------------------------------------------------------------------------------------------------------

    def names(self) -> _Names:
        """The names that objects have."""
        space = self._open_space()
        return space.store.read(space.life.names)

    def forget(self, name: str) -> None:
        """Take a name away: the object goes with its last user.  KeyError if nothing has it."""
        space = self._open_space()
        space.store.write(space.life.unname, name)

    def transaction(self) -> AbstractContextManager[None]:
        """`with manager.transaction():` changes to any objects of this manager, all at once or none.

        See `DictProxy.transaction`.
        """
        return self._open_space().store.transaction()

    # -- what the stdlib's managers have ----------------------------------------------------------------------------

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Nothing has to be started; the initializer is called here."""
        if initializer is not None:
            if not callable(initializer):
                raise TypeError("initializer must be a callable")
            initializer(*initargs)

    def connect(self) -> None:
        """There is nothing to connect to."""

    def shutdown(self) -> None:
        """Let go of everything in this process: its proxies raise `ManagerClosed` from now on.

        Other processes that still use the objects go on.
        """
        self._space.close()
        with self._guard:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def join(self, timeout: float | None = None) -> None:
        """There is nothing to wait for."""

    @property
    def address(self) -> str | None:
        """The path, if there is one."""
        return self._space.store.path

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def _open_space(self) -> Space:
        if self._space.store.closed:
            raise ManagerClosed("the manager was shut down in this process")
        return self._space

    def _number_of_objects(self) -> int:
        """How many objects there are."""
        space = self._open_space()
        space.store.write(space.life.sweep)
        return len(space.store.read(space.life.objects))

    def _debug_info(self) -> str:
        """A line or two for each object."""
        space = self._open_space()
        lines = []
        for number, header in space.store.read(space.life.objects):
            text = "?"
            with contextlib.suppress(ReferenceError):
                hold = space.store.write(space.life.hold, number)
                text = str(proxy_of(header.kind, space, hold))[:75]
            lines.append(f"  {number:<8} refcount={header.refs}\n    {text}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a manager can't be pickled; send its objects, which can")
