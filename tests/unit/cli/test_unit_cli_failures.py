from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from treadle.cli.job.codec import encode
from treadle.cli.job.failures import Failures, describe, path_beside
from treadle.cli.problems import Refusal
from treadle.errors import RemoteError, TaskFailure, WorkerDied


@contextmanager
def failures_at(path: Path) -> Iterator[Failures]:
    failures = Failures(path)
    try:
        yield failures
    finally:
        failures.close()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def note(path: Path, *indexes: int, text: str = "first") -> None:
    with failures_at(path) as failures:
        for index in indexes:
            failures.add(index, encode(f"in {index}"), ValueError(text))


def never(index: int) -> bool:
    return False


def test_a_line_says_what_failed_and_how(tmp_path: Path) -> None:
    error = ValueError("no\nway")
    error.task = TaskFailure("x", 3, 2, 17, "Traceback: at home")  # type: ignore[attr-defined]
    with failures_at(tmp_path / "e") as failures:
        failures.add(3, encode("x"), error)
    assert rows(tmp_path / "e") == [
        {
            "index": 3,
            "input": "x",
            "type": "ValueError",
            "message": "no\nway",
            "traceback": "Traceback: at home",
            "attempts": 2,
        }
    ]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError(), "ValueError"),
        (WorkerDied("gone"), "WorkerDied"),
        (json.JSONDecodeError("a", "b", 0), "json.decoder.JSONDecodeError"),
        (RemoteError("text", "their.module.Odd"), "their.module.Odd"),
    ],
)
def test_the_type_is_named_as_in_a_traceback(error: Exception, name: str) -> None:
    assert describe(error)["type"] == name


def test_an_error_that_can_not_say_what_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Mute())["message"] == "(its __str__ raises RuntimeError)"


def test_no_failure_no_file(tmp_path: Path) -> None:
    with failures_at(path_beside(tmp_path / "out")) as failures:
        failures.load(never)
        failures.compact()
    assert list(tmp_path.iterdir()) == []


def test_the_last_line_of_an_item_counts_and_only_what_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "e"
    note(path, 5, 1, 3)
    note(path, 3, text="second")
    with failures_at(path) as failures:
        failures.load({1}.__contains__)
        assert len(failures) == 2
        assert failures.last == 5
    assert [(row["index"], row["message"]) for row in rows(path)] == [(3, "second"), (5, "first")]


def test_items_that_succeed_leave_the_file_and_the_last_one_takes_it_along(tmp_path: Path) -> None:
    path = tmp_path / "e"
    note(path, 0, 1, 2)
    with failures_at(path) as failures:
        failures.load(never)
        failures.recovered(1)
        failures.recovered(77)
        failures.add(2, encode("in 2"), ValueError("again"))
        failures.add(9, encode("in 9"), ValueError("new"))
        assert [row["index"] for row in rows(path)] == [0, 1, 2, 2, 9], "nothing is taken away while the job runs"
        failures.compact()
        assert [(row["index"], row["message"]) for row in rows(path)] == [(0, "first"), (2, "again"), (9, "new")]
        failures.add(4, encode("in 4"), ValueError("late"))
        failures.compact()
        assert [row["index"] for row in rows(path)] == [0, 2, 4, 9]
        for index in (0, 2, 4, 9):
            failures.recovered(index)
        failures.compact()
        assert not path.exists()
        failures.add(6, encode("in 6"), ValueError("once more"))
    assert [row["index"] for row in rows(path)] == [6]
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


def test_a_last_line_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "e"
    note(path, 0, 1)
    first, second = path.read_bytes().splitlines(keepends=True)
    for length in range(len(second)):
        path.write_bytes(first + second[:length])
        with failures_at(path) as failures:
            failures.load(never)
        assert path.read_bytes() == first


@pytest.mark.parametrize("data", [b"precious", b"a\nb\n", b'{"index": "x"}\n', b'{"index": 1}\nprecious'])
def test_a_file_of_somebody_else_is_left_alone(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(data)
    with failures_at(path) as failures, pytest.raises(Refusal):
        failures.load(never)
    assert path.read_bytes() == data


def test_a_half_made_replacement_of_a_killed_run_is_swept_up(tmp_path: Path) -> None:
    path = tmp_path / "e"
    note(path, 1, 0)
    (tmp_path / ".e.new").write_text("half a li")
    with failures_at(path) as failures:
        failures.load(never)
    assert [row["index"] for row in rows(path)] == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["e"]
