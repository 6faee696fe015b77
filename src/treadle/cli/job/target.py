"""MODULE:FUNCTION: find it, load it the same way in every worker, and make it return JSON text."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from treadle.cli.job.codec import encode_result
from treadle.cli.problems import BadImport, Refusal

__all__ = ["Place", "Target", "find"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function is: enough for another process to load the same one."""

    module: str  # the name under which it stands in sys.modules
    file: str | None  # absolute path, where MODULE was a path
    function: str  # dotted, as in Class.method
    path: tuple[str, ...]  # goes in front of sys.path, absolute

    def __str__(self) -> str:
        return f"{self.file or self.module}:{self.function}"


class Target:
    """Calls the user's function and returns its result as JSON bytes.

    Pickled, it is only its `Place`: a worker imports the module by itself, so module-level state that can't be
    pickled (locks, sessions, large tables) is no obstacle, and results need no pickling beyond bytes.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.function = _lookup(place)
        self.__name__ = self.__qualname__ = place.function  # for messages

    def __call__(self, item: Any) -> bytes:
        return encode_result(self.function(item))

    def __reduce__(self) -> tuple[Any, ...]:
        return Target, (self.place,)


def find(spec: str) -> Target:
    """The function that `spec` (MODULE:FUNCTION) names.  Raises Refusal or BadImport."""
    module, colon, function = spec.rpartition(":")
    is_file = module.endswith(".py") or "/" in module
    if not colon or not module or not function or (module.startswith(".") and not is_file):
        raise Refusal(f"{spec!r} does not say which function: write MODULE:FUNCTION or path/to/file.py:FUNCTION")
    here = str(Path.cwd())
    if is_file:
        file = Path(module).absolute()
        if not file.is_file():
            raise Refusal(f"there is no file {module}")
        place = Place(_free_name(file), str(file), function, (str(file.parent), here))
    else:
        place = Place(module, None, function, (here,))
    _import_for_user(place, module)
    return Target(place)


def _free_name(file: Path) -> str:
    """The file's stem as a module name, or one like it where another module has that name already."""
    name = file.stem
    known = sys.modules.get(name)
    if known is None and name not in sys.stdlib_module_names:
        return name
    if known is not None and getattr(known, "__file__", None) == str(file):
        return name
    return f"{name}_of_treadle_map"


def _load(place: Place) -> ModuleType:
    """Import the module of `place`, or take it from sys.modules."""
    for entry in reversed(place.path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    if place.file is None:
        return importlib.import_module(place.module)
    loaded = sys.modules.get(place.module)
    if loaded is not None and getattr(loaded, "__file__", None) == place.file:
        return loaded
    spec = importlib.util.spec_from_file_location(place.module, place.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place.file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.module] = module  # before it runs, as import does: its classes must be found by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(place.module, None)
        raise
    return module


def _lookup(place: Place) -> Callable[[Any], Any]:
    found: Any = _load(place)
    for part in place.function.split("."):
        found = getattr(found, part)
    function: Callable[[Any], Any] = found
    return function


def _import_for_user(place: Place, shown: str) -> None:
    """Load `place` once in this process and turn everything that can be wrong with it into a clear sentence."""
    try:
        module = _load(place)
    except ModuleNotFoundError as error:
        if place.file is None and error.name is not None and _is_or_contains(error.name, place.module):
            raise Refusal(f"there is no module {error.name!r} (looked in {place.path[0]} and the rest of sys.path)")
        raise _bad_import(shown, error) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script that ends with sys.exit() outside of a main guard
        raise _bad_import(shown, error) from None
    found: Any = module
    for part in place.function.split("."):
        if not hasattr(found, part):
            raise Refusal(f"{shown} has no function {place.function!r}{_suggestion(found, part)}")
        found = getattr(found, part)
    if not callable(found):
        raise Refusal(f"{shown}:{place.function} is not a function but of type {type(found).__name__}")
    for test, kind in (
        (inspect.iscoroutinefunction, "an async function"),
        (inspect.isgeneratorfunction, "a generator function"),
        (inspect.isasyncgenfunction, "an async generator function"),
    ):
        if test(found):
            raise Refusal(f"{shown}:{place.function} is {kind}; treadle map needs one that returns its result")


def _is_or_contains(package: str, module: str) -> bool:
    return module == package or module.startswith(package + ".")


def _suggestion(owner: object, name: str) -> str:
    names = [known for known in dir(owner) if not known.startswith("_") and callable(getattr(owner, known, None))]
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _bad_import(shown: str, error: BaseException) -> BadImport:
    """The user's own part of the traceback, and a line that says what we were doing."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return BadImport(f"importing {shown} failed:\n{text}")


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__
