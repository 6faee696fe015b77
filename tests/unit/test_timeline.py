"""Traces read back: ours, unfinished ones, those of other tools, and files that are none."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from treadle.cli.app import run
from treadle.diagnose.html import page
from treadle.diagnose.timeline import MOMENT, SPAN, TASK, WAIT, BadTrace, load

pytestmark = pytest.mark.once  # it looks from outside, at what the core says


def write(folder: Path, content: Any) -> Path:
    path = folder / "t.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def x(name: str, ts: float, dur: float, tid: int = 1, cat: str = "task", **args: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": ts, "dur": dur, "pid": 7, "tid": tid, "cat": cat, "args": args}


def test_nesting_makes_lanes_and_times_begin_at_zero(tmp_path: Path) -> None:
    timeline = load(
        write(
            tmp_path,
            [
                x("outer", 1000, 100, task=1, index=0),
                x("wait: lock", 1010, 20, cat="wait", what="Lock"),
                x("next", 1100, 5, task=2),
                x("other", 1200, 5, tid=2),
                x("wait: event", 1300, 5, tid=2, cat="wait"),
            ],
        )
    )
    found = [
        (timeline.labels[label].text, row, lane, begin, number, inside)
        for label, row, lane, begin, number, inside in zip(
            timeline.label, timeline.row, timeline.lane, timeline.begin, timeline.number, timeline.inside, strict=True
        )
    ]
    assert found == [
        ("outer", 0, 0, 0.0, 0, 0),
        ("next", 0, 0, 100.0, 2, 0),
        ("wait: lock", 0, 1, 10.0, -1, 1),
        ("other", 1, 0, 200.0, -1, 0),
        ("wait: event", 1, 0, 300.0, -1, 0),
    ]
    assert timeline.duration == 305 and [row.lanes for row in timeline.rows] == [2, 1]


def test_what_overlaps_without_nesting_never_shares_a_lane(tmp_path: Path) -> None:
    timeline = load(write(tmp_path, [x("a", 0, 10), x("b", 5, 10), x("c", 9, 1), x("d", 12, 10), x("e", 30, 1)]))
    for lane in set(timeline.lane):
        spans = [
            (b, b + n)
            for k, b, n in zip(timeline.lane, timeline.begin, timeline.length, strict=True)
            if k == lane
        ]  # fmt: skip
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert len(timeline.begin) == 5


def test_begin_and_end_pairs_instants_and_arrows(tmp_path: Path) -> None:
    events = [
        {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "args": {"name": "the program"}},
        {"ph": "B", "name": "f", "ts": 0, "pid": 7, "tid": 1},
        {"ph": "B", "name": "g", "ts": 2, "pid": 7, "tid": 1},
        {"ph": "E", "ts": 5, "pid": 7, "tid": 1},
        {"ph": "i", "name": "now", "ts": 6, "pid": 7, "tid": 1},
        {"ph": "s", "name": "flow", "id": 1, "ts": 1, "pid": 7, "tid": 1},
        {"ph": "f", "name": "flow", "id": 1, "ts": 4, "pid": 7, "tid": 2},
        x("h", 4, 6, tid=2),
        {"ph": "C", "name": "counter", "ts": 1, "pid": 7, "args": {"n": 1}},
        {"ph": "X", "name": "no time", "pid": 7},
        "nonsense",
    ]
    timeline = load(write(tmp_path, {"traceEvents": events}))
    texts = {timeline.labels[label].text: length for label, length in zip(timeline.label, timeline.length, strict=True)}
    assert texts == {"f": 10, "g": 3, "now": 0, "h": 6}
    kinds = {label.text: label.kind for label in timeline.labels}
    assert kinds == {"g": SPAN, "now": MOMENT, "h": TASK, "f": SPAN} and WAIT not in kinds.values()
    assert list(timeline.arrows) == [1, 4] and list(timeline.arrow_rows) == [0, 1]
    assert timeline.skipped == 2 and timeline.rows[0].process == "the program"


@pytest.mark.parametrize("cut", [0, 3, 40])
@pytest.mark.parametrize("shape", ["[{}", '{{"traceEvents": [{}'])
def test_an_array_without_its_end(tmp_path: Path, shape: str, cut: int) -> None:
    text = shape.format(",\n".join(json.dumps(x("f", n, 1)) for n in range(10)))
    timeline = load(write(tmp_path, text[: len(text) - cut]))
    assert timeline.cut and len(timeline.begin) == (10 if cut == 0 else 9)


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps([x("f", 0, 1)]).encode()))
    assert len(load(path).begin) == 1


BAD = {
    "empty": ("", "empty"),
    "text": ("hello", "no JSON"),
    "number": ("17", "no trace"),
    "object": ('{"a": 1}', "no list of traceEvents"),
    "nothing": ("[]", "nothing in it"),
    "only names": ('[{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "x"}}]', "nothing in it"),
    "deep": ("[" * 200_000, "."),
    "binary": ("\x00\x01", "no JSON"),
    "nan": ('[{"ph": "X", "ts": NaN, "dur": 1, "name": "x"}]', "nothing in it"),
    "recording": ("rdtrace1 and no more", "no recording"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_and_exit_code_2(name: str, tmp_path: Path, capsys: Any) -> None:
    content, words = BAD[name]
    path = write(tmp_path, content)
    with pytest.raises(BadTrace):
        load(path)
    out = tmp_path / "out.html"
    assert run(["trace", str(path), "--html", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("treadle trace: ") and said.count("\n") == 1 and words in said and not out.exists()


def test_the_command_refuses(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path, [x("f", 0, 1)])
    assert run(["trace", str(tmp_path / "missing")]) == 2
    assert run(["trace", str(tmp_path)]) == 2
    assert run(["trace", str(path), "--html", str(path)]) == 2
    assert run(["trace", str(path), "--html", str(tmp_path / "no" / "folder.html")]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and all(line.startswith("treadle trace: ") for line in said)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json"]
    assert run(["trace", str(path)]) == 0
    assert "1 tasks" in capsys.readouterr().out


def test_names_can_not_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!-- <b>&amp; {{data}} /*{{script}}*/"
    path = tmp_path / f"{evil[:9].replace('/', '_')}.json"
    path.write_text(json.dumps([x(evil, 0, 1, what=evil), x(evil, 2, 1, cat="wait", what=evil, owner=evil)]))
    text = page(load(path), path.name)
    assert text.count("<script") == 2 and text.count("</script") == 2 and "alert(1)</" not in text
    assert "http://" not in text and "https://" not in text  # it needs no network


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadTrace, match="no ordinary file"):
        load(tmp_path / "pipe")
