"""Which modules the fork server loads, and what becomes of those that it can't."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing.forkserver
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from treadle import first_steps

__all__ = ["ERRORS", "choose", "load_in_server", "told"]

forkserver: Any = multiprocessing.forkserver

ERRORS = ("ignore", "warn", "fail")
FIRST = "treadle.multiprocessing.preload"
VARIABLE = (
    "TREADLE_PRELOAD"  # tells a server that starts: {"modules": [...], "on_error": ..., "path": sys.path, "steps": ...}
)
_NATIVE = sys.version_info >= (3, 15)

# What the program has asked for with another `on_error` than "ignore", on Pythons that don't know that themselves.
_asked: tuple[list[str], str] | None = None


def choose(module_names: list[str], on_error: str) -> None:
    """`set_forkserver_preload`, with `on_error` on every version of Python."""
    global _asked
    if on_error not in ERRORS:
        raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
    if _NATIVE:
        forkserver.set_forkserver_preload(module_names, on_error=on_error)
        return
    forkserver.set_forkserver_preload(module_names)
    _asked = None if on_error == "ignore" else (list(module_names), on_error)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Around what may start the fork server: it is to load treadle, and not the main module, which may start processes
    when it is run; and what the program has asked for."""
    server = forkserver._forkserver
    if server._preload_modules == ["__main__"]:  # nobody has said anything else
        server._preload_modules = [FIRST]
    elif FIRST not in server._preload_modules:
        server._preload_modules = [FIRST, *server._preload_modules]
    modules, on_error = _asked or ((), "ignore")
    wish = {"modules": modules, "on_error": on_error, "path": sys.path, "steps": first_steps.as_text()}
    os.environ[VARIABLE] = json.dumps(wish)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def load_in_server() -> None:
    """In the fork server: load what was asked for, and say what can't be loaded."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return
    wish = json.loads(text)
    first_steps.take(wish["steps"])
    before, sys.path[:] = list(sys.path), wish["path"]
    for name in wish["modules"]:
        if name == "__main__":
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            if wish["on_error"] == "fail":
                traceback.print_exc()
                raise SystemExit(f"the fork server ends, because it can't preload {name!r}") from None
            warnings.warn(f"Failed to preload module {name!r}: {error}", ImportWarning, stacklevel=2)
    sys.path[:] = before
