"""Timeline: a trace as rows of threads and what lies on them, ready to be drawn.

It reads what `--trace` leaves, finished or not, and what other tools write in the trace-event format of Chrome and
Perfetto: an object with ``traceEvents`` or the bare array, cut off or not, gzipped or not.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BadTrace", "Timeline", "Row", "Label", "TASK", "WAIT", "SPAN", "MOMENT", "load"]

# What a label is of.
TASK, WAIT, SPAN, MOMENT = range(4)
_CATEGORIES = {"task": TASK, "wait": WAIT}

DETAILS = (
    50_000  # with more different labels their details are left out: it is another tool's trace, of a million kinds
)
_DETAIL_LENGTH = 400


class BadTrace(ValueError):
    """The file is no trace, or has nothing in it that can be drawn; the text says what is wrong."""


@dataclass(slots=True)
class Row:
    """A thread."""

    pid: int
    tid: int
    process: str
    name: str
    lanes: int = 0  # how deep things nest on it


@dataclass(frozen=True, slots=True)
class Label:
    """What something on a row is."""

    text: str
    kind: int  # TASK, WAIT, SPAN or MOMENT
    details: tuple[tuple[str, str], ...]  # what else is to be said of it: names and values
    failed: bool


@dataclass(slots=True)
class Timeline:
    """Times are microseconds since the first event.

    Invariant: the columns are of one length, sorted by row, lane and begin; on one lane nothing overlaps.
    """

    rows: list[Row] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    duration: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)  # what the recorder says of itself
    skipped: int = 0  # events of kinds that aren't drawn
    cut: bool = False  # the file ended in the middle
    row: array[int] = field(default_factory=lambda: array("H"))
    lane: array[int] = field(default_factory=lambda: array("B"))
    begin: array[float] = field(default_factory=lambda: array("d"))
    length: array[float] = field(default_factory=lambda: array("d"))
    label: array[int] = field(default_factory=lambda: array("I"))
    number: array[int] = field(default_factory=lambda: array("i"))  # a task's index in its map, else its number; or -1
    inside: array[int] = field(default_factory=lambda: array("B"))  # of a wait: 1 within a task, 2 within a span
    # Arrows, from where a task was sent to where it ran.
    arrows: array[float] = field(default_factory=lambda: array("d"))  # begin, end, begin, end, ...
    arrow_rows: array[int] = field(default_factory=lambda: array("H"))  # from, to, from, to, ...


def load(path: Path) -> Timeline:
    """Read a trace.  Raises BadTrace, or OSError where the file can't be read."""
    events, about, cut = _events(_text(path))
    timeline = Timeline(about=about, cut=cut)
    _Builder(timeline).build(events)
    if not timeline.begin:
        raise BadTrace("there is nothing in it that takes time: no task, no wait and no span")
    return timeline


# -- reading


def _text(path: Path) -> str:
    from ..recording import NotARecording
    from ..recording.recorder import is_special, read

    if is_special(path):
        raise BadTrace("it is no ordinary file: save what it has to say into one")
    try:
        text = read(path)
    except NotARecording as error:
        raise BadTrace(str(error)) from error
    if text is not None:
        return text
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise BadTrace(f"it can't be unpacked: {error}") from error
    if not data.strip():
        raise BadTrace("it is empty")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTrace("it is no text, so it is no trace in JSON") from None


def _events(text: str) -> tuple[list[dict[str, Any]], dict[str, Any], bool]:
    """The events, what is said of the whole, and whether the text was cut off."""
    try:
        whole = json.loads(text)
    except RecursionError:
        raise BadTrace("it is nested too deeply") from None
    except ValueError as error:
        return _rescue(text, error), {}, True
    about: dict[str, Any] = {}
    if isinstance(whole, dict):
        other = whole.get("otherData") or whole.get("metadata")
        about = other if isinstance(other, dict) else {}
        whole = whole.get("traceEvents")
    if not isinstance(whole, list):
        raise BadTrace("it is JSON, but no trace: there is no list of traceEvents")
    return [event for event in whole if isinstance(event, dict)], about, False


def _rescue(text: str, error: ValueError) -> list[dict[str, Any]]:
    """The events of an array without its end."""
    start = re.match(r"\s*(?:\{.*?\"traceEvents\"\s*:\s*)?\[", text, re.DOTALL)
    if start is None:
        raise BadTrace(f"it is no JSON: {error}")
    decoder = json.JSONDecoder()
    blank = re.compile(r"[\s,]*")
    at, found = start.end(), []
    while True:
        at = blank.match(text, at).end()  # type: ignore[union-attr]
        try:
            event, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        if isinstance(event, dict):
            found.append(event)
    if not found:
        raise BadTrace(f"it is no JSON: {error}")
    return found


# -- building


class _Builder:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._rows: dict[tuple[Any, Any], int] = {}
        self._labels: dict[Any, int] = {}
        self._process_names: dict[Any, str] = {}
        self._process_order: dict[Any, float] = {}
        self._thread_names: dict[tuple[Any, Any], str] = {}
        self._found: list[tuple[int, float, float, int, int]] = []  # row, begin, end, label, number
        self._sent: dict[Any, tuple[float, int]] = {}
        self._arrows: list[tuple[float, int, float, int]] = []
        self._open: dict[tuple[Any, Any], list[tuple[float, dict[str, Any]]]] = {}

    def build(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            try:
                self._take(event)
            except BadTrace:
                raise
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
                self._timeline.skipped += 1  # a field that is missing, or of another type
        last = max((end for _, _, end, _, _ in self._found), default=0.0)
        for key, stack in self._open.items():
            for begin, event in stack:
                self._add(key, begin, last, event, {"unfinished": True})
        self._lay_out()

    def _take(self, event: dict[str, Any]) -> None:
        phase = event["ph"]
        key = event.get("pid", 0), event.get("tid", event.get("pid", 0))
        hash(key)
        if phase == "X":
            begin = float(event["ts"])
            if event.get("cat") != "pool":  # where an arrow begins
                self._add(key, begin, begin + max(0.0, float(event.get("dur", 0))), event)
        elif phase == "B":
            self._open.setdefault(key, []).append((float(event["ts"]), event))
        elif phase == "E":
            began, opened = self._open[key].pop()
            self._add(key, began, max(began, float(event["ts"])), opened, event.get("args"))
        elif phase in ("i", "I", "R"):
            if event.get("name") != "end" or event.get("cat") != "end":
                self._add(key, float(event["ts"]), float(event["ts"]), event, moment=True)
        elif phase == "s":
            self._sent[event["id"]] = float(event["ts"]), self._row(key)
        elif phase in ("f", "t"):
            sent = self._sent.pop(event["id"], None)
            if sent is not None:
                self._arrows.append((*sent, float(event["ts"]), self._row(key)))
        elif phase == "M":
            args = event.get("args") or {}
            if event["name"] == "process_name":
                self._process_names[key[0]] = str(args["name"])
            elif event["name"] == "process_sort_index":
                self._process_order[key[0]] = float(args["sort_index"])
            elif event["name"] == "thread_name":
                self._thread_names[key] = str(args["name"])
        else:
            self._timeline.skipped += 1

    def _row(self, key: tuple[Any, Any]) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row >= 65_535:
                raise BadTrace("it has more than 65,535 threads")
        return row

    def _add(
        self, key: tuple[Any, Any], begin: float, end: float, event: dict[str, Any], more: Any = None,
        moment: bool = False,
    ) -> None:  # fmt: skip
        if not (begin == begin and end == end and abs(begin) < 1e18 and end < 1e18):
            raise ValueError("no time")
        args = event.get("args")
        args = {**args, **(more if isinstance(more, dict) else {})} if isinstance(args, dict) else more or {}
        label, number = self._label(str(event.get("name", "?")), event.get("cat"), args, moment)
        self._found.append((self._row(key), begin, end, label, number))

    def _label(self, text: str, category: Any, args: dict[str, Any], moment: bool) -> tuple[int, int]:
        kind = MOMENT if moment else _CATEGORIES.get(category if isinstance(category, str) else "", SPAN)
        number = -1
        details = []
        for name, value in args.items():
            if kind == TASK and name in ("task", "index") and isinstance(value, int) and abs(value) < 1 << 31:
                if name == "index" or number < 0:
                    number = value
            elif name not in ("failed", "object", "kind") or kind not in (TASK, WAIT):
                shown = value if isinstance(value, str) else json.dumps(value)
                details.append((str(name)[:60], shown[:_DETAIL_LENGTH]))
        failed = kind == TASK and bool(args.get("failed"))
        if len(self._labels) > DETAILS:
            details = []
        found = text[:_DETAIL_LENGTH], kind, tuple(details), failed
        label = self._labels.setdefault(found, len(self._labels))
        if label == len(self._timeline.labels):
            self._timeline.labels.append(Label(*found))
        return label, number

    def _lay_out(self) -> None:
        timeline, found = self._timeline, self._found
        if not found:
            return
        zero = min(begin for _, begin, _, _, _ in found)
        timeline.duration = max(end for _, _, end, _, _ in found) - zero
        order = self._order()
        kinds = [label.kind for label in timeline.labels]
        items = []
        stack: list[tuple[float, bool]] = []  # of the row's open things: end, and whether that is in a task
        current = -1
        for row, begin, end, label, number in sorted(
            ((order[row], begin, end, label, number) for row, begin, end, label, number in found),
            key=lambda item: (item[0], item[1], -item[2]),
        ):
            if row != current:
                stack.clear()
                current = row
            while stack and stack[-1][0] <= begin:
                stack.pop()  # what overlaps without nesting comes a lane further down, too
            lane = min(len(stack), 254)
            inside = 0 if kinds[label] != WAIT or not stack else 1 if stack[-1][1] else 2
            stack.append((end, kinds[label] == TASK or (bool(stack) and stack[-1][1])))
            timeline.rows[row].lanes = max(timeline.rows[row].lanes, lane + 1)
            items.append((row, lane, begin - zero, end - begin, label, number, inside))
        items.sort(key=lambda item: item[:3])
        for row, lane, begin, length, label, number, inside in items:
            timeline.row.append(row)
            timeline.lane.append(lane)
            timeline.begin.append(begin)
            timeline.length.append(length)
            timeline.label.append(label)
            timeline.number.append(number)
            timeline.inside.append(inside)
        used = set(timeline.row)
        for sent, source, ran, target in self._arrows:
            if order[source] in used or order[target] in used:
                timeline.arrows.extend((sent - zero, ran - zero))
                timeline.arrow_rows.extend((order[source], order[target]))

    def _order(self) -> list[int]:
        """Where each row comes: processes in their order, their main thread first."""
        keys = list(self._rows)

        def place(index: int) -> tuple[float, str, bool, int]:
            pid, tid = keys[index]
            return self._process_order.get(pid, 1e9), str(pid), pid != tid, index

        ranked = sorted(range(len(keys)), key=place)
        order = [0] * len(keys)
        for rank, index in enumerate(ranked):
            order[index] = rank
            pid, tid = keys[index]
            process = self._process_names.get(pid, f"process {pid}")
            name = self._thread_names.get(keys[index], f"thread {tid}")
            self._timeline.rows.append(Row(_number(pid), _number(tid), process, name))
        return order


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
