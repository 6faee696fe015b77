"""How the things of the program's main module reach a new process, whose main module is another one.

The standard library runs the main file again in each child.  That takes time, is impossible for programs that have no
file (``python -c``, standard input, notebooks), and starts processes for ever if the file lacks its
``if __name__ == "__main__"``.  So here it is run again only if it has such a guard, and only when a name of it is asked
for; names that running it would not give, and all names of a main module without a guard, travel by value.

The child's ``__main__`` is a stand-in.  What came by value is bound there, so that pickling by name finds it too; other
names are looked up when they are first needed: by running the file, or among the functions and classes that the parent
has sent along.
"""

from __future__ import annotations

import ast
import runpy
import sys
import threading
import tokenize
import types
from collections.abc import Iterator
from multiprocessing import process
from os.path import join, normpath
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["MAIN_NAMES", "Plan", "StandIn", "find", "main_globals", "plan"]

MAIN_NAMES = ("__main__", "__mp_main__")


class Plan(NamedTuple):
    """How a child may get at the main module: `how` is "path" or "name" (then it may be run again) or "".

    `names` are those that running it without its guarded part defines.
    """

    how: str
    where: str
    names: frozenset[str]
    file: str | None

    def has(self, thing: Any, qualname: str) -> bool:
        """Is `thing` what a process finds under that name when it has run the main module again?"""
        root = qualname.partition(".")[0]
        return root in self.names and find(sys.modules["__main__"], qualname) is thing


def find(module: types.ModuleType, qualname: str) -> Any:
    """The thing of that name, or None; doesn't make a stand-in look for it."""
    if "<" in qualname:
        return None
    thing: Any = module
    for i, name in enumerate(qualname.split(".")):
        thing = module.__dict__.get(name) if i == 0 else getattr(thing, name, None)
        if thing is None:
            return None
    return thing


def plan() -> Plan:
    """How this process's main module can be had elsewhere."""
    main = sys.modules["__main__"]
    if isinstance(main, StandIn):
        return main.__plan__
    file = getattr(main, "__file__", None)
    original: str | None = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    if file is not None:  # as the standard library does
        file = normpath(join(original or "", file))  # noqa: PTH118 - text, and an absolute one stays
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if file is None or not (guarded := _names_of(file)):
        return Plan("", "", frozenset(), file)
    if name is None:
        return Plan("path", file, guarded, file)
    if name == "__main__" or name.endswith(".__main__"):  # it runs its main part in any case
        return Plan("", "", frozenset(), file)
    return Plan("name", name, guarded, file)


_analysed: dict[str, tuple[float, frozenset[str]]] = {}


def _names_of(file: str) -> frozenset[str]:
    """What that file defines outside of its guarded part; nothing if it has no guard, or is no source file."""
    try:
        when = Path(file).stat().st_mtime
        if file not in _analysed or _analysed[file][0] != when:
            with tokenize.open(file) as source:
                _analysed[file] = when, _outside_of_guard(ast.parse(source.read()))
        return _analysed[file][1]
    except (OSError, SyntaxError, ValueError):
        return frozenset()


def _outside_of_guard(tree: ast.Module) -> frozenset[str]:
    outside: set[str] = set()
    inside: set[str] = set()
    guarded = False
    for statement in tree.body:
        if isinstance(statement, ast.If) and (positive := _guard(statement.test)) is not None:
            guarded = True
            inside.update(_bound(statement.body if positive else statement.orelse))
            outside.update(_bound(statement.orelse if positive else statement.body))
        else:
            outside.update(_bound([statement]))
    return frozenset(outside - inside | {"__name__"}) if guarded else frozenset()


def _guard(test: ast.expr) -> bool | None:
    """True for ``__name__ == "__main__"``, alone or with more conditions; False for its opposite; else None."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return True if any(_guard(part) for part in test.values) else None
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    sides = [test.left, test.comparators[0]]
    if not any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides):
        return None
    if not any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides):
        return None
    return {ast.Eq: True, ast.NotEq: False}.get(type(test.ops[0]))


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that these statements bind in their own namespace."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name).partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            todo.extend(ast.iter_child_nodes(node))


class StandIn(types.ModuleType):
    """The main module of a child, until somebody needs more of it."""

    # Invariant: __things__ has only names that are not bound yet.

    __plan__: Plan
    __things__: dict[str, bytes]
    __ran__ = False
    __globals_of_run__: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            _load(self, name)
            if name in self.__dict__:
                return self.__dict__[name]
        hint = ""
        if not self.__plan__.how and not name.startswith("_"):
            hint = (
                " in this process; it has no main module of its own, and gets functions and classes of the program's, "
                "as far as they can be pickled and are short"
            )
        raise AttributeError(f"module '__main__' has no attribute {name!r}{hint}")


_loading = threading.RLock()


def install(given: Plan, things: dict[str, bytes]) -> None:
    """In a new child: make the stand-in its main module, unless the child already has the right one."""
    if given.file is not None and getattr(sys.modules["__main__"], "__file__", None) == given.file:
        return
    main = StandIn("__mp_main__" if given.how else "__main__")
    main.__plan__ = given
    main.__things__ = things
    if given.file is not None:
        main.__file__ = given.file
    _kept.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


_kept: list[types.ModuleType] = []  # a main module that is dropped would take its functions' globals with it


def _load(main: StandIn, name: str) -> None:
    with _loading:
        if name in main.__dict__:
            return
        if (blob := main.__things__.pop(name, None)) is not None:
            import pickle

            main.__dict__.setdefault(name, pickle.loads(blob))
        elif main.__plan__.how and not main.__ran__:
            main.__ran__ = True  # before it runs: it may ask for its own names
            _run(main)


def _run(main: StandIn) -> None:
    """Run the main module without its guarded part.  It must not start processes meanwhile; who does is told so."""
    current: Any = process.current_process()
    outer = getattr(current, "_inheriting", None)
    current._inheriting = True
    try:
        how, where, _, _ = main.__plan__
        if how == "name":
            content = runpy.run_module(where, run_name="__mp_main__", alter_sys=True)
        else:
            content = runpy.run_path(where, run_name="__mp_main__")
    finally:
        if outer is None:
            del current._inheriting
        else:
            current._inheriting = outer
    for each, value in content.items():
        main.__dict__.setdefault(each, value)
        if isinstance(value, types.FunctionType) and value.__module__ == "__mp_main__":
            main.__globals_of_run__ = value.__globals__


def main_globals() -> dict[str, Any]:
    """The globals of the main module's functions, in this process."""
    main = sys.modules["__main__"]
    ran = main.__globals_of_run__ if isinstance(main, StandIn) else None
    return main.__dict__ if ran is None else ran


def bind(things: dict[str, Any]) -> None:
    """In a new child: these have come by value; pickling by name is to find them."""
    main = sys.modules["__main__"]
    if isinstance(main, StandIn):
        for name, value in things.items():
            main.__dict__.setdefault(name, value)
            main.__things__.pop(name, None)
