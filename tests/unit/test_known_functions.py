"""Pickled functions are found again exactly while all that they took along is unchanged."""

from __future__ import annotations

import types
from typing import Any

import pytest

from treadle._native import _core
from treadle.pool.functions import FunctionTable


def function(source: str, name: str = "f") -> types.FunctionType:
    """One of a main module's: it travels by value."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)
    found = scope[name]
    assert isinstance(found, types.FunctionType)
    return found


def same(table: FunctionTable, fn: Any) -> bool:
    return table.encode(fn) is table.encode(fn)


def test_by_name_it_is_always_the_same() -> None:
    assert same(FunctionTable(), len)


def test_a_global_that_is_bound_anew() -> None:
    table, fn = FunctionTable(), function("n = 1\ndef f(): return n")
    before = table.encode(fn)
    assert table.encode(fn) is before
    fn.__globals__["n"] = 2
    after = table.encode(fn)
    assert after is not before and after.blob != before.blob and table.encode(fn) is after
    del fn.__globals__["n"]
    unbound = table.encode(fn)
    assert unbound is not after and table.encode(fn) is unbound
    fn.__globals__["n"] = 3
    assert table.encode(fn) is not unbound


def test_what_a_function_is_made_of() -> None:
    table, fn = FunctionTable(), function("def f(a=1, *, b=2): return a")
    assert not same(table, fn), "a dict of defaults may change without a word"
    fn = function("def f(a=1): return a")
    before = table.encode(fn)
    assert table.encode(fn) is before
    fn.__defaults__ = (2,)
    after = table.encode(fn)
    assert after is not before
    fn.__code__ = function("def f(a=1): return a + 1").__code__
    assert table.encode(fn) is not after


def test_a_cell_and_a_function_that_is_called() -> None:
    source = """
def make():
    n = 1
    def set(m):
        nonlocal n
        n = m
    def f(): return n
    return f, set
f, set = make()
"""
    table, fn = FunctionTable(), function(source)
    before = table.encode(fn)
    assert table.encode(fn) is before
    fn.__globals__["set"](2)
    assert table.encode(fn) is not before

    fn = function("n = 1\ndef g(): return n\ndef f(): return g()")
    before = table.encode(fn)
    assert table.encode(fn) is before
    fn.__globals__["n"] = 2
    assert table.encode(fn) is not before


def test_what_may_change_is_pickled_each_time() -> None:
    table = FunctionTable()
    assert not same(table, function("n = []\ndef f(): return n"))
    assert not same(table, [].append)


def test_bad_bindings() -> None:
    for bindings in ([], ((1, 2),)):
        with pytest.raises(TypeError):
            _core.Known(len, None, bindings)  # type: ignore[arg-type]
