from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from treadle.cli.job.source import BadLine, Lines, Paths, Source
from treadle.cli.problems import Refusal


def items(source: Source) -> list[Any]:
    return [source.parse(number, raw) for number, raw in source]


@contextmanager
def lines(tmp_path: Path, data: bytes, form: str = "auto") -> Iterator[Lines]:
    (tmp_path / "in").write_bytes(data)
    with closing(Lines(str(tmp_path / "in"), form)) as source:
        yield source


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b'1\n"a"\n{"b": [1.5, null]}\ntrue', [1, "a", {"b": [1.5, None]}, True]),
        (b"plain text\n007\nnone\nnull\n", ["plain text", "007", "none", None]),
        (b"a\n\n  \nb\n", ["a", "b"]),
        (b"a\r\n1\r\n", ["a", 1]),
        (b"\xef\xbb\xbf1\n", [1]),
        (b"NaN\n1e999\nInfinity\n", ["NaN", "1e999", "Infinity"]),
        (b"[1, 2\n", ["[1, 2"]),
        (b"1" * 5000, ["1" * 5000]),
        (b"caf\xe9\n", [os.fsdecode(b"caf\xe9")]),
        ("名前\n".encode(), ["名前"]),
        (b"a\x85b\x0bc\n", [b"a\x85b\x0bc".decode("utf-8", "surrogateescape")]),
    ],
)
def test_auto_takes_json_where_it_parses_and_text_otherwise(data: bytes, expected: list[Any], tmp_path: Path) -> None:
    with lines(tmp_path, data) as source:
        assert items(source) == expected
        assert items(source) == expected, "a file can be read again"
        assert source.count() == len(expected)


def test_text_takes_every_line_as_it_is(tmp_path: Path) -> None:
    with lines(tmp_path, b'1\n\n {"a":1}\n', "text") as source:
        assert items(source) == ["1", "", ' {"a":1}']


def test_json_makes_a_bad_line_a_bad_item_with_its_line_number(tmp_path: Path) -> None:
    with lines(tmp_path, b"1\n\noops\n2\n", "json") as source:
        raw = list(source)
        assert [source.parse(*raw[0]), source.parse(*raw[2])] == [1, 2]
        with pytest.raises(BadLine, match=r"line 3 of .* is not JSON"):
            source.parse(*raw[1])


def test_a_pipe_can_be_read_once_and_is_not_counted() -> None:
    read, write = os.pipe()
    os.write(write, b"1\n2\n")
    os.close(write)
    with closing(Lines(f"/proc/self/fd/{read}")) as source:
        os.close(read)
        assert not source.again
        assert source.count() is None
        assert items(source) == [1, 2]


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_can_not_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot read"):
        Lines(str(tmp_path / name))


def test_glob_is_recursive_sorted_and_without_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt", "d/e/c.txt", ".hidden.txt", "a.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert items(Paths(["**/*.txt", "*.txt"])) == ["a.txt", "b.txt", "d/e/c.txt"]
    assert items(Paths(["*"], [Path("a.py"), Path("not there")])) == ["a.txt", "b.txt", "d"]


def test_glob_without_a_match_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=r"nothing matches '\*\.zzz'"):
        Paths(["*.zzz"])
