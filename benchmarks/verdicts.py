"""Goals: which were reached, and where treadle is behind a peer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

NOISE = 0.95  # a median that is nearer to 1 than this, with 1 within its spread, says nothing


class Verdict(NamedTuple):
    """One goal of one row, or one of its peers."""

    group: str
    row: str
    against: str  # "": an absolute goal
    unit: str
    goal: float
    asked: bool  # the row names this goal; otherwise it is the one that all have: ahead of every peer
    seen: dict[str, tuple[float, float, float]]  # by Python: the median, the least and the most

    def reached(self, python: str) -> bool:
        """On that Python; where nothing was measured, no."""
        found = self.seen.get(python)
        if found is None:
            return False
        middle, _, high = found
        if not self.against:
            return middle <= self.goal
        return middle >= self.goal or (self.goal == 1 and middle >= NOISE and high >= 1)


def verdicts(results: list[dict[str, Any]]) -> Iterator[Verdict]:
    """Of all rows; `results` as they are stored, the main Python first."""
    for group, title, row in rows_of(results):
        peers = {each["name"]: each["kind"] for each in row["seen"]}
        goals = {name: 1.0 for name, kind in peers.items() if kind == "peer"} | row["goals"]
        for against, goal in goals.items():
            if not goal:  # measured, and not asked for
                continue
            seen = _seen(results, group, title, against)
            yield Verdict(group, title, against, row["unit"], goal, against in row["goals"], seen)


def rows_of(results: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each row once, as the first Python that has it says it."""
    done = set()
    for result in results:
        for group, found in result.get("groups", {}).items():
            for title, row in found.get("rows", {}).items():
                if (group, title) not in done:
                    done.add((group, title))
                    yield group, title, row


def _seen(results: list[dict[str, Any]], group: str, title: str, against: str) -> dict[str, tuple[float, float, float]]:
    found = {}
    for result in results:
        row = result.get("groups", {}).get(group, {}).get("rows", {}).get(title)
        if row is None:
            continue
        if not against:
            each = row["seen"][0]
            if not each["trouble"]:
                found[result["python"]] = (each["per"],) * 3
            continue
        for each in row["seen"]:
            if each["name"] == against and not each["trouble"] and each["ratio"] == each["ratio"]:
                found[result["python"]] = (each["ratio"], each["low"], each["high"])
    return found
