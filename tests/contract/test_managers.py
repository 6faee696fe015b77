"""Managers: the same operations on treadle's (no server), on the standard library's, and on plain objects."""

from __future__ import annotations

import array
import copy
import math
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest
from manager_work import Colour, Named, Number, Pair, Point, Text, append_all, fill_dict, negative

from treadle.shared import Manager

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The stdlib's, one for all tests: each would leave a temporary folder behind until the program ends."""
    with FORK.Manager() as made:
        keep = made.list()  # as long as there is a proxy, the connection to the server stays open
        keep.append(1)
        yield made
        del keep


@pytest.fixture(params=["treadle", "file", "stdlib"])
def manager(request: pytest.FixtureRequest, tmp_path: Any, server: Any) -> Iterator[Any]:
    if request.param == "stdlib":
        yield server
        return
    with Manager() if request.param == "treadle" else Manager(tmp_path / "state.db") as made:
        yield made


def outcome(action: Callable[[Any], Any], target: Any) -> Any:
    """What it returns, or the exception's type and text."""
    try:
        result = action(target)
    except Exception as error:
        return type(error), str(error)
    return list(result) if isinstance(result, type({}.keys()) | type({}.values()) | type({}.items())) else result


def run(action: Callable[[Any], Any], target: Any) -> Any:
    """Like `outcome`, then what has become of the target."""
    return outcome(action, target), target._getvalue() if hasattr(target, "_getvalue") else target


def setitem(key: Any, value: Any) -> Callable[[Any], None]:
    def action(target: Any) -> None:
        target[key] = value

    return action


def delitem(key: Any) -> Callable[[Any], None]:
    def action(target: Any) -> None:
        del target[key]

    return action


LIST = {
    "getitem": lambda x: x[3],
    "negative": lambda x: x[-2],
    "beyond": lambda x: x[10],
    "far below": lambda x: x[-11],
    "bad index": lambda x: x["a"],
    "slice": lambda x: x[2:5],
    "slice step": lambda x: x[::-3],
    "slice empty": lambda x: x[7:3],
    "all": lambda x: x[:],
    "set": setitem(3, "new"),
    "set negative": setitem(-1, "new"),
    "set beyond": setitem(10, 1),
    "set slice same": setitem(slice(2, 5), ["a", "b", "c"]),
    "set slice grow front": setitem(slice(1, 2), ["a", "b", "c"]),
    "set slice grow back": setitem(slice(8, 9), ["a", "b", "c"]),
    "set slice shrink front": setitem(slice(1, 4), ["a"]),
    "set slice shrink back": setitem(slice(6, 9), ["a"]),
    "set slice backwards": setitem(slice(5, 2), ["a"]),
    "set slice step": setitem(slice(None, None, 2), [1, 2, 3, 4, 5]),
    "set slice step wrong": setitem(slice(None, None, 2), [1, 2]),
    "set slice all": setitem(slice(None), []),
    "set slice str": setitem(slice(0, 0), "abc"),
    "del": delitem(0),
    "del last": delitem(-1),
    "del middle": delitem(4),
    "del beyond": delitem(10),
    "del slice": delitem(slice(2, 6)),
    "del slice step": delitem(slice(None, None, 3)),
    "del slice back": delitem(slice(None, None, -2)),
    "del all": delitem(slice(None)),
    "append": lambda x: x.append(10),
    "extend": lambda x: x.extend([10, 11]),
    "insert front": lambda x: x.insert(0, "a"),
    "insert": lambda x: x.insert(4, "a"),
    "insert late": lambda x: x.insert(8, "a"),
    "insert beyond": lambda x: x.insert(100, "a"),
    "insert below": lambda x: x.insert(-100, "a"),
    "insert negative": lambda x: x.insert(-1, "a"),
    "pop": lambda x: x.pop(),
    "pop front": lambda x: x.pop(0),
    "pop middle": lambda x: x.pop(4),
    "pop beyond": lambda x: x.pop(10),
    "remove": lambda x: x.remove(5),
    "remove missing": lambda x: x.remove("no"),
    "reverse": lambda x: x.reverse(),
    "sort": lambda x: x.sort(),
    "sort key": lambda x: x.sort(key=negative),
    "sort reverse": lambda x: x.sort(reverse=True),
    "index": lambda x: x.index(3),
    "index from": lambda x: x.index(3, 4),
    "count": lambda x: x.count(3),
    "in": lambda x: 3 in x,
    "not in": lambda x: "no" in x,
    "len": lambda x: len(x),
    "add": lambda x: x + [1],  # noqa: RUF005
    "mul": lambda x: x * 2,
    "rmul": lambda x: 2 * x,
    "iterate": lambda x: list(x),
    "reversed": lambda x: list(reversed(x)),
    "unpack": lambda x: [*x],
}
LIST_NEW = {"clear": lambda x: x.clear(), "copy": lambda x: x.copy()}

DICT = {
    "getitem": lambda x: x["a"],
    "getitem missing": lambda x: x["no"],
    "get": lambda x: x.get("a"),
    "get missing": lambda x: x.get("no"),
    "get default": lambda x: x.get("no", 5),
    "set": setitem("new", 1),
    "set existing": setitem("a", "changed"),
    "set number": setitem(1.0, "one"),
    "set bool": setitem(True, "one"),
    "set list": setitem([], 1),
    "set deep list": setitem((1, []), 1),
    "del": delitem("b"),
    "del missing": delitem("no"),
    "del number": delitem(1.0),
    "in": lambda x: "a" in x,
    "not in": lambda x: "no" in x,
    "in bool": lambda x: True in x,
    "in list": lambda x: [] in x,
    "len": lambda x: len(x),
    "keys": lambda x: x.keys(),
    "values": lambda x: x.values(),
    "items": lambda x: x.items(),
    "iterate": lambda x: list(x),
    "copy": lambda x: x.copy(),
    "clear": lambda x: x.clear(),
    "pop": lambda x: x.pop("a"),
    "pop missing": lambda x: x.pop("no"),
    "pop default": lambda x: x.pop("no", 3),
    "popitem": lambda x: x.popitem(),
    "setdefault": lambda x: x.setdefault("new", 4),
    "setdefault there": lambda x: x.setdefault("a", 4),
    "setdefault none": lambda x: x.setdefault("new"),
    "update": lambda x: x.update({"b": 5, "z": 6}),
    "update pairs": lambda x: x.update([("b", 5), ("z", 6)]),
    "update kwargs": lambda x: x.update(b=5, z=6),
    "update bad": lambda x: x.update(5),
}
DICT_NEW = {
    "or": lambda x: x | {"z": 1},
    "ror": lambda x: {"z": 1, "a": 0} | x,
    "or bad": lambda x: x | 5,
    "reversed": lambda x: list(reversed(x)),
    "fromkeys": lambda x: x.fromkeys("ab", 1),
}
SET = {
    "add": lambda x: x.add(9),
    "add there": lambda x: x.add(1.0),
    "discard": lambda x: x.discard(2),
    "discard missing": lambda x: x.discard(9),
    "remove": lambda x: x.remove(2),
    "remove missing": lambda x: x.remove(9),
    "in": lambda x: 2.0 in x,
    "len": lambda x: len(x),
    "clear": lambda x: x.clear(),
    "copy": lambda x: x.copy(),
    "iterate": lambda x: sorted(x),
    "and": lambda x: x & {1, 2, 9},
    "or": lambda x: x | {9},
    "sub": lambda x: x - {1},
    "xor": lambda x: x ^ {1, 9},
    "rand": lambda x: {1, 9} & x,
    "ror": lambda x: {1, 9} | x,
    "rsub": lambda x: {1, 9} - x,
    "rxor": lambda x: {1, 9} ^ x,
    "le": lambda x: x <= {1, 2, 3, 4},
    "lt": lambda x: x < {1, 2, 3},
    "ge": lambda x: x >= {1},
    "gt": lambda x: x > {1, 2, 3},
    "difference": lambda x: x.difference([1], [2]),
    "difference_update": lambda x: x.difference_update([1], [2]),
    "intersection": lambda x: x.intersection([1, 2], [2]),
    "intersection_update": lambda x: x.intersection_update([1, 2], [2]),
    "isdisjoint": lambda x: x.isdisjoint([9]),
    "issubset": lambda x: x.issubset([1, 2, 3]),
    "issuperset": lambda x: x.issuperset([1]),
    "symmetric_difference": lambda x: x.symmetric_difference([1, 9]),
    "symmetric_difference_update": lambda x: x.symmetric_difference_update([1, 9]),
    "union": lambda x: x.union([9], [8]),
    "update": lambda x: x.update([9], [8]),
    "and bad": lambda x: x & [1],
}


def newer(manager: Any, what: str) -> None:
    """What the stdlib's managers have since 3.14."""
    if sys.version_info < (3, 14) and not isinstance(manager, Manager):
        pytest.skip(f"{what}: since Python 3.14")


def same(action: Callable[[Any], Any], shared: Any, plain: Any) -> None:
    """The text of a TypeError may name the proxy's type."""
    got, want = run(action, shared), run(action, plain)
    if isinstance(want[0], tuple) and want[0][:1] == (TypeError,):
        assert got[0][0] is TypeError
        got, want = (got[1],), (want[1],)
    assert got == want
    if isinstance(plain, dict):
        assert list(got[-1]) == list(want[-1]), "the order of the keys"


@pytest.mark.parametrize("name", [*LIST, *LIST_NEW])
def test_list(manager: Any, name: str) -> None:
    if name in LIST_NEW:
        newer(manager, name)
    plain = [*range(9), 3]
    same({**LIST, **LIST_NEW}[name], manager.list(plain), plain)


@pytest.mark.parametrize("name", [*DICT, *DICT_NEW])
def test_dict(manager: Any, name: str) -> None:
    if name in DICT_NEW:
        newer(manager, name)
    plain = {"a": [1, 2], 1: "int", "b": None, None: 0, (1, "x"): 2}
    same({**DICT, **DICT_NEW}[name], manager.dict(plain), dict(plain))


@pytest.mark.parametrize("name", list(SET))
def test_set(manager: Any, name: str) -> None:
    newer(manager, "set")
    same(SET[name], manager.set([1, 2, 3]), {1, 2, 3})


def test_list_in_place(manager: Any) -> None:
    shared = manager.list([1, 2])
    before = shared
    shared += [3]
    shared *= 2
    assert shared is before and shared[:] == [1, 2, 3, 1, 2, 3]
    shared *= 0
    assert shared[:] == []


def test_dict_in_place(manager: Any) -> None:
    newer(manager, "|=")
    shared = manager.dict(a=1)
    before = shared
    shared |= {"b": 2}
    shared |= manager.dict(c=3)
    assert shared is before and shared.copy() == {"a": 1, "b": 2, "c": 3}


def test_empty(manager: Any) -> None:
    assert run(lambda x: x.pop(), manager.list()) == ((IndexError, "pop from empty list"), [])
    assert outcome(lambda x: x.popitem(), manager.dict()) == outcome(lambda x: x.popitem(), {})


KEYS = [
    "text", "", "ä", "\ud800", "x" * 1000, b"bytes", b"", 0, 1, -1, 2**100, -(2**20000), 1.0, 0.5, -0.0, math.inf,
    -math.inf, True, False, None, 1j, complex(2, 0), complex(0.0, 0.5), complex(-0.0, 0.5), (), (1,), (1.0,),
    (True, None), ((),),
    ("a", ("b", b"c")), frozenset(), frozenset([1, 2]), frozenset([2.0, True]), frozenset([(1, "a"), None]), Ellipsis,
    Number.ONE, Number.TWO, Colour.RED, Colour.BLUE, Pair(1, 2), Named(1, 2), (1, 2), Point(1, 2), Point(1, 3), (1, 3),
    Text("Word"), "word", "WORD", Text("word"), Text("Other"), "other", Decimal("0.5"), Decimal(1),
    Decimal("0.1"), 0.1, Fraction(1, 2), Fraction(1, 3), PurePosixPath("a"), PurePosixPath("b"), int, len, range(3),
    range(0, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("order", [1, -1, 7, 11])
def test_equal_keys(manager: Any, order: int) -> None:
    """Whatever a dict makes of these keys, in any order, is what becomes of them here."""
    keys = KEYS[::order] if order < 2 else [KEYS[i * order % len(KEYS)] for i in range(len(KEYS))]
    plain: dict[Any, Any] = {}
    shared = manager.dict()
    for i, key in enumerate(keys):
        plain[key] = i
        shared[key] = i
        assert len(shared) == len(plain), key
    assert shared.copy() == plain
    assert [(type(key), key) for key in shared.keys()] == [(type(key), key) for key in plain]  # noqa: SIM118
    for key in keys:
        assert shared[key] == plain[key]
        assert key in shared
    for key in keys[::3]:
        assert (shared.pop(key, None), len(shared)) == (plain.pop(key, None), len(plain))
    for key in keys:
        assert shared.get(key, "none") == plain.get(key, "none"), key
    for i, key in enumerate(keys[::-1]):
        plain[key] = shared[key] = i
    assert list(shared.items()) == list(plain.items())


def test_nan(manager: Any) -> None:
    shared = manager.dict()
    shared[math.nan] = 1
    shared[math.nan] = 2
    assert len(shared) == 2 and math.nan not in shared


def test_nested(manager: Any) -> None:
    outer, inner = manager.dict(), manager.list()
    outer["a"] = inner
    outer["b"] = [inner, {"deep": inner}]
    outer["a"].append(1)
    inner.append(2)
    outer["b"][1]["deep"].append(3)
    assert inner[:] == outer["a"][:] == outer["b"][0][:] == [1, 2, 3]
    del inner
    assert outer["a"][:] == [1, 2, 3]
    outer["a"] = None
    assert outer["b"][0][:] == [1, 2, 3]
    last = outer.pop("b")[0]
    assert last[:] == [1, 2, 3]
    both = manager.list([manager.dict(x=1), manager.list([2])])
    assert both[0]["x"] == 1 and both[1][0] == 2
    assert [type(each).__name__ for each in both[:]] == ["DictProxy", "ListProxy"]


def test_a_copy_is_no_proxy(manager: Any) -> None:
    shared = manager.list([1])
    again = copy.copy(shared)
    apart = copy.deepcopy(shared)
    again.append(2)
    assert shared[:] == [1, 2] and apart == [1]


def test_text(manager: Any) -> None:
    assert str(manager.list([1, "a"])) == "[1, 'a']"
    assert str(manager.dict(a=1)) == "{'a': 1}"
    assert repr(manager.list()).startswith("<ListProxy object, typeid 'list' at 0x")
    space = manager.Namespace(b=1, a="x", _hidden=2)
    assert str(space) == "Namespace(a='x', b=1)"
    assert str(manager.Value("i", 5)) == "Value('i', 5)"
    assert str(manager.Array("i", [1, 2])) == "array('i', [1, 2])"


def test_namespace(manager: Any) -> None:
    space = manager.Namespace(x=1)
    space.y = [2]
    space._own = 5
    assert (space.x, space.y, space._own) == (1, [2], 5)
    del space.x
    with pytest.raises(AttributeError):
        space.x
    with pytest.raises(AttributeError):
        del space.x
    again = pickle.loads(pickle.dumps(space)) if isinstance(manager, Manager) else space
    assert again.y == [2]


def test_any_keyword_is_an_item(manager: Any) -> None:
    if isinstance(manager, Manager) and manager.address is not None:
        pytest.skip("in a file, name= is the object's own")
    assert manager.dict(name="Ada", self=1).copy() == {"name": "Ada", "self": 1}
    assert manager.dict([("a", 1)], name=None).copy() == {"a": 1, "name": None}
    assert manager.Namespace(name="Ada").name == "Ada"


def test_value(manager: Any) -> None:
    value = manager.Value("i", 5)
    value.value += 1
    assert value.value == value.get() == 6
    value.set("anything")
    assert value.value == "anything"
    value.value = manager.list([1])
    assert value.value[:] == [1]


def test_array(manager: Any) -> None:
    for size in (0, 5, 128, 1000):
        plain = array.array("i", range(size))
        shared = manager.Array("i", range(size))
        assert len(shared) == size and list(shared) == list(plain)
        if size:
            plain[-1] = shared[-1] = 77
            plain[3] = shared[3] = -5
            assert shared[-1] == 77 and shared[3] == -5
        plain[1:3] = shared[1:3] = array.array("i", [8, 9, 10])
        assert shared[:] == plain and len(shared) == len(plain)
        plain[:] = shared[:] = array.array("i", [1])
        assert shared[:] == plain and len(shared) == 1
        for action in (lambda x: x[1], setitem(1, 0), setitem(0, "a"), setitem(slice(0, 1), [1])):
            assert outcome(action, shared)[0] is outcome(action, plain)[0]


def test_what_is_not_a_value(manager: Any) -> None:
    shared = manager.dict()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        shared["a"] = lambda: None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        shared[lambda: None] = 1
    assert len(shared) == 0


def test_changed_while_iterated(manager: Any) -> None:
    shared = manager.dict(a=1, b=2, c=3)
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        for key in shared:
            del shared[key]


def test_list_changed_while_iterated(manager: Any) -> None:
    shared = manager.list([1, 2, 3, 4])
    for item in shared:
        shared.remove(item)
    assert shared[:] == [2, 4]


def test_calls_by_name(manager: Any) -> None:
    shared = manager.list([1])
    assert shared._callmethod("append", (2,)) is None
    assert shared._callmethod("__getitem__", (1,)) == 2
    assert shared._getvalue() == [1, 2]


def test_ten_processes(manager: Any) -> None:
    """The tutorial's: ten processes change the same dict and list."""
    shared, items = manager.dict(), manager.list()
    workers = [FORK.Process(target=fill_dict, args=(shared, i, 20)) for i in range(10)]
    workers += [FORK.Process(target=append_all, args=(items, i, 20)) for i in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert shared.copy() == {(worker, i): i for worker in range(10) for i in range(20)}
    assert sorted(items) == sorted((worker, i) for worker in range(10) for i in range(20))
    for worker in range(10):
        assert [i for who, i in items if who == worker] == list(range(20)), "each one's in order"


def test_counts_its_objects(manager: Any) -> None:
    before = manager._number_of_objects()
    a, b = manager.list(), manager.dict()
    assert manager._number_of_objects() == before + 2
    assert str(a) in manager._debug_info()
    del a, b
    assert manager._number_of_objects() == before
