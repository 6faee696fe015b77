from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.cli.job.codec import encode
from treadle.cli.job.files import LineFile
from treadle.cli.job.journal import Journal, fingerprint
from treadle.cli.problems import Refusal

values = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
in_one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@contextmanager
def journal_of(path: Path) -> Iterator[Journal]:
    journal = Journal(LineFile.open(path))
    try:
        yield journal
    finally:
        journal.close()


def write(path: Path, rows: list[tuple[int, Any, Any]]) -> list[bytes]:
    """Write them; the lines."""
    path.unlink(missing_ok=True)
    with journal_of(path) as journal:
        for index, input_, result in rows:
            journal.add(index, encode(input_), encode(result))
    return path.read_bytes().splitlines(keepends=True)


def indexes(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_bytes().splitlines()]


@given(st.dictionaries(st.integers(0, 2**62), st.tuples(values, values), max_size=6))
@in_one_directory
def test_what_was_written_is_done_whatever_the_order(tmp_path: Path, rows: dict[int, tuple[Any, Any]]) -> None:
    path = tmp_path / "out"
    write(path, [(index, *pair) for index, pair in rows.items()])
    with journal_of(path) as journal:
        journal.load()
        assert list(journal.done.indexes) == sorted(rows)
        for index, (input_, _) in rows.items():
            assert index in journal.done
            assert journal.input_at(index) == encode(input_)
            assert journal.done.prints[sorted(rows).index(index)] == fingerprint(encode(input_))
        assert -1 not in journal.done
        journal.sort()
    assert indexes(path) == sorted(rows)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_last_line_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first, second = write(path, [(0, "a", [1, "é"]), (1, {"b": "\udc80"}, "x" * 50)])
    for length in range(len(second)):
        path.write_bytes(first + second[:length])
        with journal_of(path) as journal:
            journal.load()
            assert list(journal.done.indexes) == [0]
            assert path.read_bytes() == first
            journal.add(1, encode({"b": "\udc80"}), encode("x" * 50))
        assert path.read_bytes() == first + second


def test_a_hole_of_zeros_at_the_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (first,) = write(path, [(0, "a", 1)])
    path.write_bytes(first + b"\0" * 100)
    with journal_of(path) as journal:
        journal.load()
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b"\n",
        b"{}\n",
        b'{"index": 1, "input": 2}\n',
        b'{"index": 1, "input": 2, "result": }\n',
        b'{"index": 1, "input": 2, "result": NaN}\n',
        b'{"index": 1, "input": 2, "result": 3}}\n',
        b'{"index": -1, "input": 2, "result": 3}\n',
        b'{"index": 1.0, "input": 2, "result": 3}\n',
        b'{"index": true, "input": 2, "result": 3}\n',
        b'{"index": 99999999999999999999, "input": 2, "result": 3}\n',
        b'{"index": 1, "inp\0\0\0\0\0\n',
        b'{"index": 1, "input": "\xff", "result": 3}\n',
        b'[{"index": 1}]\n',
    ],
)
def test_a_damaged_line_is_refused_with_its_number_and_nothing_is_changed(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out"
    first, last = write(path, [(0, "a", 1), (2, "b", 3)])
    for data in (first + bad + last, first + bad, first + bad + last[:-4]):
        path.write_bytes(data)
        with journal_of(path) as journal, pytest.raises(Refusal, match=r"line 2 of .* is damaged"):
            journal.load()
        assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"my precious text", b"binary \0 \1", b'{"name": 1}', b'{"index": 0}\n{"indices'])
def test_a_file_of_somebody_else_is_left_alone(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(data)
    with journal_of(path) as journal, pytest.raises(Refusal):
        journal.load()
    assert path.read_bytes() == data


def test_an_index_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, [(0, "a", 1), (1, "b", 2), (0, "a", 1)])
    with journal_of(path) as journal, pytest.raises(Refusal, match="index 0 twice"):
        journal.load()


def test_lines_that_somebody_formatted_anew_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text('{"result":[1],"input":{"a":1,"b":"\\u00e9"},"index":7}\n')
    with journal_of(path) as journal:
        journal.load()
        assert list(journal.done.indexes) == [7]
        assert journal.input_at(7) == encode({"a": 1, "b": "é"})


def test_sorting_keeps_the_file_mode_and_the_file_open_for_more(tmp_path: Path) -> None:
    path = tmp_path / "out"
    lines = write(path, [(2, "c", 3), (0, "a", 1)])
    path.chmod(0o640)
    with journal_of(path) as journal:
        journal.load()
        journal.sort()
        assert path.read_bytes() == lines[1] + lines[0]
        journal.add(5, encode("f"), encode(6))
        journal.add(4, encode("e"), encode(5))
        journal.sort()
    assert indexes(path) == [0, 2, 4, 5]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_sorted_file_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, [(0, "a", 1), (3, "c", 3)])
    before = path.stat().st_ino
    with journal_of(path) as journal:
        journal.load()
        journal.add(4, encode("d"), encode(4))
        journal.sort()
    assert path.stat().st_ino == before
