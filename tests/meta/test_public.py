"""The public names: documented, listed, typed; and nothing in the code that belongs elsewhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import treadle

HOME = Path(treadle.__file__).parent
ROOT = HOME.parent.parent
MODULES = sorted(HOME.rglob("*.py"))


def members(cls: type) -> list[tuple[str, Any]]:
    """The public methods and properties that a class of ours defines."""
    return [
        (name, value)
        for name, value in vars(cls).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, classmethod)))
    ]


@pytest.mark.parametrize("name", treadle.__all__)
def test_documented(name: str) -> None:
    thing = getattr(treadle, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        assert "__doc__" in vars(thing) and thing.__doc__, f"{name} only inherits its docstring"
        for method, value in members(thing):
            assert inspect.getdoc(value), f"{name}.{method}"


@pytest.mark.parametrize("name", treadle.__all__)
def test_typed(name: str) -> None:
    thing = getattr(treadle, name)
    functions = [thing] if inspect.isfunction(thing) else []
    if inspect.isclass(thing):
        functions += [v.fget if isinstance(v, property) else getattr(v, "__func__", v) for _, v in members(thing)]
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        for parameter in list(signature.parameters.values()):
            if parameter.name not in ("self", "cls"):
                assert parameter.annotation is not inspect.Parameter.empty, (function, parameter)


def test_the_list_is_complete() -> None:
    homes = vars(treadle)["_HOMES"]
    assert sorted(treadle.__all__) == sorted(homes), "lazily importable, and listed"
    assert len(set(treadle.__all__)) == len(treadle.__all__)
    assert set(treadle.__all__) <= set(dir(treadle))
    errors = importlib.import_module("treadle.errors")
    assert set(errors.__all__) <= set(treadle.__all__)
    own = [n for n, v in vars(errors).items() if inspect.isclass(v) and issubclass(v, BaseException)]
    assert {n for n in own if vars(errors)[n].__module__ == errors.__name__} <= set(errors.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        treadle.nothing_like_it  # type: ignore[attr-defined]


def test_modules_by_their_full_names() -> None:
    """After `import treadle` alone, whatever has been imported by others."""
    import sys

    names = sorted(vars(treadle)["_MODULES"])
    assert {"threading", "queue", "multiprocessing", "futures", "diagnose", "errors"} <= set(names) <= set(dir(treadle))
    code = f"import treadle; print(*(getattr(treadle, name).__name__ for name in {names}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [f"treadle.{name}" for name in names]


def test_the_type_checker_sees_the_same_names() -> None:
    """`if TYPE_CHECKING` imports what `__getattr__` gives at run time."""
    tree = ast.parse((HOME / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(treadle.__all__)
    assert (HOME / "py.typed").exists()


def test_errors_are_the_standard_librarys_too() -> None:
    import concurrent.futures
    import pickle

    assert issubclass(treadle.WorkerDied, concurrent.futures.BrokenExecutor)
    assert issubclass(treadle.WorkerStartError, concurrent.futures.BrokenExecutor)
    assert issubclass(treadle.TaskTimeout, TimeoutError)
    assert issubclass(treadle.PoolClosed, RuntimeError)
    for error in (treadle.TaskNotPicklable, treadle.ResultNotPicklable):
        assert issubclass(error, pickle.PicklingError)
    for error in (treadle.TaskNotLoadable, treadle.ResultNotLoadable):
        assert issubclass(error, pickle.UnpicklingError)


@pytest.mark.parametrize(
    "error",
    [
        treadle.WorkerDied("it died", 7, -9),
        treadle.ProcessDied("it died", 7, -9),
        treadle.TaskTimeout("too long", 3.5),
        treadle.MemoryLimitExceeded("too much", 1 << 20),
        treadle.RemoteError("Some: text", "a.Some"),
        treadle.ResultNotPicklable("no", "<a lock>", "TypeError"),
        treadle.Unsupported("no", "dask", "memory_limit"),
        treadle.DeadlockError("a circle", (1, 2)),
        treadle.RemoteTraceback("Traceback ..."),
        treadle.PoolClosed("closed"),
        treadle.TaskNotPicklable("no"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_survive_pickling(error: Exception) -> None:
    import pickle

    error.task = treadle.TaskFailure(item=[1], index=3, attempts=2, pid=5, traceback="tb")  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and again.args == error.args and str(again) == str(error)
    assert again.__dict__.keys() == error.__dict__.keys()
    if isinstance(error, treadle.TreadleError):
        assert again.__dict__ == error.__dict__ and treadle.failure(again) == error.task  # type: ignore[attr-defined]


def test_importing_is_cheap() -> None:
    """The package loads what it needs when it is needed."""
    import sys

    code = "import sys, treadle; print(*sorted(m for m in sys.modules if m.startswith('treadle')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["treadle"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(HOME).as_posix())
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), path


# Paths of some machine, and what one writes to oneself.
FORBIDDEN = re.compile(
    "|".join([r"/wo" + "rk/", r"/ro" + "ot/", r"/ho" + r"me/\w", "TO" + "DO", "FIX" + "ME", "XX" + "X"])
)


def sources() -> list[Path]:
    """What the repository holds."""
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "docs", "examples", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".toml", ".sh")]
    return [p for p in [*files, *ROOT.glob("*.md"), ROOT / "pyproject.toml"] if "egg-info" not in str(p)]


def test_nothing_that_belongs_elsewhere() -> None:
    found = []
    for path in sources():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()!r}")
    assert not found, "\n".join(found)
