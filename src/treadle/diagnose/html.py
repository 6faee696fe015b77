"""A timeline as one page that needs nothing else: no network, no server."""

from __future__ import annotations

import base64
import html
import json
import zlib
from array import array
from importlib import resources
from typing import Any

from .timeline import Timeline

__all__ = ["page"]


def page(timeline: Timeline, name: str) -> str:
    """The page's text; `name` is the trace's, for the title.

    Whatever stands in the trace, it can't become markup or code: names are only ever put in as text, and the data has
    no ``<`` in it.
    """
    columns = {
        "row": _packed(timeline.row),
        "lane": _packed(timeline.lane),
        "begin": _packed(timeline.begin),
        "length": _packed(timeline.length),
        "label": _packed(timeline.label),
        "number": _packed(timeline.number),
        "inside": _packed(timeline.inside),
        "arrows": _packed(timeline.arrows),
        "arrowRows": _packed(timeline.arrow_rows),
    }
    data: dict[str, Any] = {
        "name": name,
        "about": timeline.about,
        "duration": timeline.duration,
        "skipped": timeline.skipped,
        "cut": timeline.cut,
        "rows": [[row.pid, row.tid, row.process, row.name, row.lanes] for row in timeline.rows],
        "labels": [[label.text, label.kind, label.details, int(label.failed)] for label in timeline.labels],
        "columns": columns,
    }
    text = _template("timeline.html")
    for key, value in {
        "{{title}}": html.escape(name),
        "/*{{style}}*/": _template("timeline.css"),
        "/*{{script}}*/": _template("timeline.js"),
        "{{data}}": _embedded(data),
    }.items():
        before, found, after = text.partition(key)
        assert found, key
        text = before + value + after
    return text


def _packed(column: array[Any]) -> str:
    """Little-endian numbers, deflated, in base64."""
    return base64.b64encode(zlib.compress(column.tobytes(), 6)).decode("ascii")


def _embedded(data: Any) -> str:
    """JSON for a script element: nothing in it can end that, begin a comment, or be half of a surrogate pair."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
