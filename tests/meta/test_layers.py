"""The layout holds: a layer never imports upward, and the brain has neither threads nor clocks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import treadle

pytestmark = pytest.mark.once

HOME = Path(treadle.__file__).parent
MODULES = sorted(HOME.rglob("*.py"))

# Which layer a module belongs to, by its path; the longest prefix counts.  A module imports from layers of the same or
# a lower number only.
LAYERS = {
    "errors.py": 0,
    "_native": 1,
    "handles.py": 1,
    "first_steps.py": 0,
    "displaced.py": 0,
    "recording": 2,
    "sync": 2,
    "queues": 3,
    "waiting.py": 4,
    "shared": 3,
    # Inside of the pool:
    "pool/__init__.py": 10,
    "pool/busy.py": 10,
    "pool/cpus.py": 10,
    "pool/waits.py": 10,
    "pool/memory.py": 10,
    "pool/decision.py": 10,
    "pool/options.py": 10,
    "pool/abilities.py": 10,
    "pool/task.py": 11,
    "pool/ranks.py": 12,
    "pool/events.py": 12,
    "pool/crew.py": 12,
    "pool/stock.py": 12,
    "pool/backlog.py": 12,
    "pool/state.py": 12,
    "pool/reactor.py": 12,
    "pool/transport": 13,
    "pool/payloads.py": 13,
    "pool/by_value.py": 13,
    "pool/main_module.py": 10,
    "pool/main_pickling.py": 13,
    "pool/birth.py": 17,
    "pool/functions.py": 14,
    "pool/failures.py": 14,
    "pool/contexts.py": 15,
    "pool/calls.py": 16,
    "pool/reports.py": 15,
    "pool/inside": 15,
    "pool/results.py": 15,
    "pool/worker.py": 16,
    "pool/launch": 17,
    "pool/engines": 18,
    "pool/unread.py": 16,
    "pool/watchdog.py": 10,
    "pool/registry.py": 19,
    "pool/driver.py": 20,
    "pool/future.py": 21,
    "pool/stats.py": 21,
    "pool/inbox.py": 16,
    "pool/chunks.py": 16,
    "pool/bulk.py": 16,
    "pool/feeder.py": 21,
    "pool/warm.py": 21,
    "pool/maps.py": 22,
    "pool/streams.py": 23,
    "pool/sources.py": 22,
    "pool/amaps.py": 23,
    "pool/astreams.py": 24,
    "pool/station.py": 21,
    "pool/clusters": 22,
    "pool/catalog.py": 23,
    "pool/opening.py": 24,
    "pool/pool.py": 24,
    "engines.py": 41,
    "progress.py": 22,
    "diagnose": 30,
    "threading.py": 40,
    "queue.py": 40,
    "multiprocessing": 40,
    "futures": 41,
    "joblib.py": 41,
    "stand_ins.py": 42,
    "testing": 45,
    "pytest_plugin.py": 46,
    "__init__.py": 50,
    "cli": 60,
    "examples": 60,
    "__main__.py": 70,
}
# The folders of the native core, lowest first.  A C file includes headers of its own and of lower folders only; the
# pure ones know nothing of Python.
NATIVE = Path(__file__).parents[2] / "src/treadle/_native"
PURE_FOLDERS = ["system", "board", "memory"]
FOLDERS = [
    *PURE_FOLDERS,
    "python", "sync", "values", "queues", "tasks", "transport", "pool", "diagnose",
    ".",
]  # fmt: skip
C_FILES = sorted(NATIVE.rglob("*.[ch]"))
# The brain: events in, instructions out.
PURE = (
    "pool/state.py",
    "pool/backlog.py",
    "pool/stock.py",
    "pool/crew.py",
    "pool/ranks.py",
    "pool/events.py",
    "pool/task.py",
    "pool/options.py",
    "pool/decision.py",
)
MAY_PURE_IMPORT = {"__future__", "bisect", "collections", "collections.abc", "dataclasses", "enum", "math", "typing"}
# Its structures, and the brain's loops in C: these are pure as well.
MAY_PURE_IMPORT |= {"_native/__init__.py"}


def name(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


def layer(module: str) -> int:
    found = [prefix for prefix in LAYERS if module == prefix or module.startswith(prefix + "/")]
    assert found, f"{module} belongs to no layer: give it a place in LAYERS"
    return LAYERS[max(found, key=len)]


def is_typing_only(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Inside of `if TYPE_CHECKING`?  Such an import is no dependence."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return True
    return False


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Each (line, module) that it imports: ours as a path below the package, others by their name."""
    tree = ast.parse(path.read_text())
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    package = path.parent
    for node in ast.walk(tree):
        if is_typing_only(node, parents):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "treadle":
                    yield node.lineno, resolve(HOME, alias.name.split(".")[1:])
                else:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            dotted = node.module.split(".") if node.module else []
            if node.level:
                base = package
                for _ in range(node.level - 1):
                    base = base.parent
            elif dotted[0] == "treadle":
                base, dotted = HOME, dotted[1:]
            else:
                yield node.lineno, ".".join(dotted)
                continue
            for alias in node.names:
                yield node.lineno, resolve(base, [*dotted, alias.name])


def resolve(base: Path, dotted: list[str]) -> str:
    """The file of ours that `base.dotted` names; its last part may be a name inside of it."""
    for parts in (dotted, dotted[:-1], dotted[:-2]):  # the last but one: a name inside of an extension module
        target = base.joinpath(*parts)
        for candidate in (target.with_suffix(".py"), target / "__init__.py"):
            if parts and candidate.exists():
                return name(candidate)
    return name(base / "__init__.py")


def includes(path: Path) -> Iterator[tuple[int, str]]:
    """Each (line, header) of ours that a C file includes, below `_native`."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if found:
            yield number, found[1]


def c_name(path: Path) -> str:
    return path.relative_to(NATIVE).as_posix()


def test_the_rules_see_the_core() -> None:
    assert "board/lock.h" in {header for _, header in includes(NATIVE / "board/lock.c")}
    assert {path.relative_to(NATIVE).parent.as_posix() for path in C_FILES} == set(FOLDERS)
    assert len({path.name for path in C_FILES}) == len(C_FILES), "comments name them without their folder"


@pytest.mark.parametrize("path", C_FILES, ids=c_name)
def test_c_includes_go_downward(path: Path) -> None:
    mine = path.relative_to(NATIVE).parent.as_posix()
    wrong = []
    for line, header in includes(path):
        folder = Path(header).parent.as_posix()
        if not (NATIVE / header).exists():
            wrong.append(f"{c_name(path)}:{line} includes {header}: name it from _native on")
        elif FOLDERS.index(folder) > FOLDERS.index(mine):
            wrong.append(f"{c_name(path)}:{line} includes {header} of a higher folder")
    if mine in PURE_FOLDERS and re.search(r"#\s*include\s*<Python\.h>", path.read_text()):
        wrong.append(f"{c_name(path)} includes Python.h")
    assert not wrong, "\n".join(wrong)


def first_of_the_system(path: Path) -> str | None:
    """Which header of the system comes first in what the compiler sees."""
    for line in path.read_text().splitlines():
        found = re.match(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', line)
        if found:
            first = found[2] or first_of_the_system(NATIVE / found[1])
            if first is not None:
                return first
    return None


@pytest.mark.parametrize("path", [path for path in C_FILES if path.suffix == ".c"], ids=c_name)
def test_python_comes_first(path: Path) -> None:
    """Its header says what the system's ones offer, so none of these may have been read before."""
    folder = path.relative_to(NATIVE).parent.as_posix()
    knows_python = folder not in PURE_FOLDERS and path.name != "items.c"
    assert (first_of_the_system(path) == "Python.h") == knows_python


def test_the_rules_see_something() -> None:
    found = set(imports(HOME / "pool/driver.py"))
    assert {"pool/state.py", "pool/reactor.py", "errors.py", "contextlib"} <= {module for _, module in found}
    assert "pool/driver.py" not in {module for _, module in imports(HOME / "pool/future.py")}, "typing only"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_downward(path: Path) -> None:
    mine = layer(name(path))
    wrong = []
    for line, module in imports(path):
        if module.endswith(".py") and module != name(path) and layer(module) > mine:
            wrong.append(f"{name(path)}:{line} (layer {mine}) imports {module} (layer {layer(module)})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PURE)
def test_the_brain_is_pure(module: str) -> None:
    for line, imported in imports(HOME / module):
        assert imported in MAY_PURE_IMPORT or imported in PURE, f"{module}:{line} imports {imported}"


def test_only_the_driver_performs() -> None:
    """Nobody else asks the brain."""
    users = [name(path) for path in MODULES if "State(" in path.read_text() and name(path) != "pool/state.py"]
    assert users == ["pool/driver.py"]
