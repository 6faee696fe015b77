"""Functions for `treadle map`: each takes one item and returns something that JSON can express."""

from __future__ import annotations

import ast
import time
import urllib.request
import warnings
from pathlib import Path

__all__ = ["fetch", "measure", "slow_square"]


def measure(path: str) -> dict[str, int]:
    """The size of a Python file: bytes, lines, functions, and how deep its deepest statement is nested.

    Raises SyntaxError for a file that is no Python.
    """
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the file's author should mend is not our business
        tree = ast.parse(source, path)
    functions = deepest = 0
    todo: list[tuple[ast.AST, int]] = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        functions += isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        todo += [(part, depth + (not _continues(node, part))) for part in _statements(node)]
    return {"bytes": len(source), "lines": source.count(b"\n"), "functions": functions, "deepest": deepest}


def _statements(node: ast.AST) -> list[ast.AST]:
    """What stands in the blocks of a statement."""
    parts: list[ast.AST] = []
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):  # a lambda's body is no block
            parts += block
    for field in ("handlers", "cases"):
        for arm in getattr(node, field, ()):
            parts += arm.body
    return parts


def _continues(node: ast.AST, part: ast.AST) -> bool:
    """Whether `part` is an `elif` of `node`, or a statement of the module itself, so no level deeper."""
    if isinstance(node, ast.Module):
        return True
    return isinstance(node, ast.If) and node.orelse == [part] and isinstance(part, ast.If) and _same_column(node, part)


def _same_column(one: ast.stmt, other: ast.stmt) -> bool:
    return one.col_offset == other.col_offset


def fetch(url: str) -> dict[str, float]:
    """Get a page: its status, its size in bytes, and the seconds that the answer took."""
    began = time.monotonic()
    with urllib.request.urlopen(url) as answer:
        body = answer.read()
    return {"status": answer.status, "bytes": len(body), "seconds": round(time.monotonic() - began, 3)}


def slow_square(number: int) -> int:
    """The square of a number, after a hundredth of a second."""
    time.sleep(0.01)
    return number * number
