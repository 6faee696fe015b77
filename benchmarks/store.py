"""What was measured, as JSON in a folder: one file a Python."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .harness import Line, Row, Seen, Sweep
from .machine import python_name, versions

FOLDER = Path("build/bench/results")


class Store:
    """The results of one Python; a row that is measured again replaces what it was."""

    def __init__(self, folder: Path, python: str | None = None) -> None:
        self.path = folder / f"{python or python_name()}.json"
        self.data: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(self.data, indent=1))
        os.replace(scratch, self.path)

    def begin(self, quick: bool) -> None:
        """Note what the results are of."""
        self.data |= {"python": python_name(), "versions": versions(), "quick": quick}
        self.data.setdefault("loads", []).append(os.getloadavg()[0])
        self._save()

    def add_row(self, group: str, row: Row, seen: list[Seen]) -> None:
        """A row's figures, with what the report says of them."""
        rows = self.data.setdefault("groups", {}).setdefault(group, {}).setdefault("rows", {})
        rows[row.title] = {
            "unit": row.unit,
            "goals": dict(row.goals),
            "seen": [each._asdict() for each in seen],
        }
        self._save()

    def add_sweep(self, group: str, what: Sweep, lines: list[Line]) -> None:
        """A sweep's."""
        sweeps = self.data.setdefault("groups", {}).setdefault(group, {}).setdefault("sweeps", {})
        sweeps[what.title] = {
            "axis": what.axis,
            "whole": what.whole,
            "fit": what.fit,
            "goal": what.goal,
            "lines": [line._asdict() for line in lines],
        }
        self._save()

    def add_trouble(self, group: str, title: str, trouble: str) -> None:
        """A row of which the whole process failed or did not end."""
        groups = self.data.setdefault("groups", {})
        groups.setdefault(group, {}).setdefault("trouble", {})[title] = trouble
        self._save()

    def drop_trouble(self, group: str, title: str) -> None:
        """This time it went well."""
        if self.data.get("groups", {}).get(group, {}).get("trouble", {}).pop(title, None) is not None:
            self._save()


def read_all(folder: Path) -> list[dict[str, Any]]:
    """Every Python's results, the newest Python first."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda each: _version(each["python"]), reverse=True)


def _version(name: str) -> tuple[bool, tuple[int, ...]]:
    # Free-threaded builds come last: they are another row of pictures, not the main one.
    plain = name.removesuffix("t")
    return plain == name, tuple(int(part) for part in plain.split(".") if part.isdigit())
