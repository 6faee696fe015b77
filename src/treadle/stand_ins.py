"""`treadle.install()`: from now on `import threading` and its like mean treadle's modules, in this program's processes.

What stands in for what:

    threading, queue, _thread                      at once
    concurrent.futures                             at once; its executors when they are first asked for
    multiprocessing and all of its submodules      when one of them, or an executor, is first imported

Treadle's own modules and those of the standard library that they are built on go on using the standard library's.  So
all of them are loaded before a name means something else: in `_load`, with the original modules in `sys.modules`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

from treadle import displaced, first_steps

__all__ = ["install"]

_STEP = "treadle.stand_ins:_install_in_child"

_lock = threading.RLock()  # held by who installs
_originals = displaced.modules  # the standard library's modules that something stands in for
_faces: dict[str, types.ModuleType] = {}  # what stands in for them
_installed = False

# Asking for one of these loads all that is not loaded yet: they are built on modules of the names that change meaning.
_HEAVY = (
    "multiprocessing", "concurrent.futures.thread", "concurrent.futures.process", "concurrent.futures.interpreter",
    "treadle.pool", "treadle.multiprocessing", "treadle.futures", "treadle.shared", "treadle.queues.shared",
    "treadle.sync.shared", "treadle.waiting",
)  # fmt: skip
_EXECUTORS = ("thread", "process", *(("interpreter",) if sys.version_info >= (3, 14) else ()))
# Modules of the standard library that were bound to the originals when they were loaded, and must stay so.
_FOUNDATIONS = ("threading", "queue", "multiprocessing", "importlib", "_threading_local", "_thread", "_pydatetime")

# Whoever imports these builds queues and locks of his own on the insides of the standard library's (loky does).
_KEPT = ("multiprocessing.queues", "multiprocessing.synchronize", "multiprocessing.context")


def install(*, on_stuck: str | None = None, lock_order: bool | None = None) -> None:
    """Let `threading`, `queue`, `multiprocessing`, `concurrent.futures` and `_thread` mean treadle's.

    For everything that is imported later, and for names that modules have bound already (``import threading``,
    ``from threading import Lock`` at module level); not for objects that exist, base classes of classes that exist, and
    names that functions have kept.  So call it first.  The standard library's own modules take part (logging, asyncio).

    Processes that treadle starts for this program do it too; programs that it runs with `subprocess` don't.  A second
    call replaces nothing more.  There is no way back.  Safe to call from any thread; ImportError if a module can't be
    loaded.

    `on_stuck` is what to do when all threads of all its processes wait, and nobody is left who could wake one: "report"
    on stderr who waits for what, "exit" with code 70 after that, or "ignore" it.  None: what the environment variable
    TREADLE_ON_STUCK says, else "report".  ValueError for anything else.

    `lock_order`: remember which locks are taken while holding which, and report on stderr when that happens both ways
    round; see `treadle.diagnose.lock_order`.  None: if the environment variable TREADLE_LOCK_ORDER is set.
    """
    from treadle.diagnose import asleep

    asleep.begin(on_stuck or os.environ.get(asleep.VARIABLE) or "report")
    _replace(bool(os.environ.get("TREADLE_LOCK_ORDER")) if lock_order is None else lock_order)


def _replace(lock_order: bool) -> None:
    global _installed
    with _lock:
        if lock_order:
            from treadle.diagnose import lock_order as order

            order.begin()
            first_steps.add(_STEP, True)
        if _installed:
            return
        from treadle import futures, queue, threading

        _take("threading", threading)
        _take("queue", queue)
        _take("concurrent.futures", futures)
        _take("_thread", _low_level())
        _enter(_faces)
        _installed = True
        if any(name.partition(".")[0] == "multiprocessing" for name in sys.modules) or any(
            f"concurrent.futures.{name}" in sys.modules for name in _EXECUTORS
        ):
            _load()
        else:
            sys.meta_path.insert(0, _Late())
        _rebind()
        first_steps.add(_STEP, lock_order)


def _install_in_child(lock_order: bool) -> None:
    _replace(lock_order)  # who has started it looks after it


def _take(name: str, face: types.ModuleType) -> None:
    if name not in _originals:
        _originals[name] = importlib.import_module(name)
        _faces[name] = face


def _enter(modules: dict[str, types.ModuleType]) -> None:
    """Let these be what importing their names gives, also as attributes of their packages."""
    for name, module in modules.items():
        sys.modules[name] = module
        package, _, last = name.rpartition(".")
        if package == "concurrent":
            setattr(sys.modules[package], last, module)


def _low_level() -> types.ModuleType:
    """`_thread`, with our locks.  The import system goes on with its own."""
    import _thread

    from treadle._native._core import Lock, RLock

    face = types.ModuleType("_thread", _thread.__doc__)
    face.__dict__.update(_thread.__dict__)
    face.__dict__.update(allocate_lock=Lock, allocate=Lock, LockType=Lock, lock=Lock, RLock=RLock)
    return face


def _load() -> None:
    """The second half: load all that is built on modules of the names, then let the names mean ours."""
    import concurrent.futures

    _enter(_originals)
    try:
        for name in _EXECUTORS:
            importlib.import_module(f"concurrent.futures.{name}")
        import multiprocessing

        for name in _submodules(multiprocessing):
            if "win32" not in name and not name.endswith("__main__"):
                importlib.import_module(name)
        import treadle.futures as ours_too
        import treadle.multiprocessing as ours

        _take("multiprocessing", ours)
        for name in _submodules(ours):
            public = name.removeprefix("treadle.")
            face = importlib.import_module(name) if public in sys.modules else None
            if face is not None and public not in _KEPT:
                _take(public, face)
        for name in _EXECUTORS:
            _take(f"concurrent.futures.{name}", importlib.import_module(f"treadle.futures.{name}"))
        for name in ours_too.__all__:
            getattr(ours_too, name)
        assert concurrent.futures is _originals["concurrent.futures"]
    finally:
        _enter(_faces)


def _submodules(package: types.ModuleType) -> Iterator[str]:
    import pkgutil

    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield found.name


class _Late:
    """A finder that loads the second half when somebody asks for a part of it, and is gone then."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not any(name == heavy or name.startswith(heavy + ".") for heavy in _HEAVY):
            return None
        # Who imports holds the module's lock, which `_load` may need: so a second thread must not wait for the first
        # one here.  It imports what it finds, the original perhaps, which `_rebind` then looks for.
        for finder in sys.meta_path:
            if isinstance(finder, _Late):
                try:
                    sys.meta_path.remove(finder)
                except ValueError:
                    return None
                try:
                    _load()
                except BaseException:
                    sys.meta_path.insert(0, finder)
                    raise
                _rebind()
                break
        found = sys.modules.pop(name, None)  # the import system would run again what it finds there now
        there: Any = _There(found)
        return None if found is None else importlib.machinery.ModuleSpec(name, there)


class _There:
    """The loader of a module that is there already."""

    def __init__(self, module: types.ModuleType | None) -> None:
        self._module = module

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        assert self._module is not None
        sys.modules[module.__name__] = self._module


def _rebind() -> None:
    """Names that modules have bound to the originals, or to what is in them."""
    new: dict[int, Any] = {}
    kept: list[Any] = []  # so that the ids stay theirs
    for name, original in _originals.items():
        face = _faces[name]
        new[id(original)] = face
        kept.append(original)
        for key in getattr(original, "__all__", ("allocate_lock", "allocate", "LockType", "RLock")):
            theirs, ours = vars(original).get(key), vars(face).get(key)
            if theirs is not ours and theirs is not None and ours is not None:
                new.setdefault(id(theirs), ours)
                kept.append(theirs)
    spared = {id(module) for module in (*_originals.values(), *_faces.values())}
    for name, module in list(sys.modules.items()):
        if id(module) in spared or not isinstance(module, types.ModuleType) or not _concerned(name):
            continue
        standard = name.partition(".")[0] in sys.stdlib_module_names
        for key, value in list(vars(module).items()):
            if (found := new.get(id(value))) is not None and (not standard or value is _originals["threading"]):
                setattr(module, key, found)


def _concerned(name: str) -> bool:
    root = name.partition(".")[0]
    if name == "concurrent.futures._base":  # its futures wait on our conditions
        return True
    return root not in (*_FOUNDATIONS, "treadle", "concurrent", "builtins", "sys")
