"""A timeline in a few lines of text."""

from __future__ import annotations

from .timeline import TASK, WAIT, Timeline

__all__ = ["summary"]


def summary(timeline: Timeline) -> str:
    """What ran, how often and for how long, and the longest waits."""
    runs: dict[str, list[float]] = {}
    waits: list[tuple[float, str, str]] = []
    for row, label, length in zip(timeline.row, timeline.label, timeline.length, strict=True):
        what = timeline.labels[label]
        if what.kind == TASK:
            runs.setdefault(what.text, []).append(length)
        elif what.kind == WAIT:
            waits.append((length, timeline.rows[row].name, dict(what.details).get("what", what.text)))
    used = [timeline.rows[row] for row in sorted(set(timeline.row))]
    total = sum(map(len, runs.values()))
    processes = len({row.pid for row in used})
    head = f"{_seconds(timeline.duration)}, {processes} processes, {len(used)} threads"
    lines = [f"{head}, {total:,} tasks, {len(waits):,} waits"]
    for name, lengths in sorted(runs.items(), key=lambda item: -sum(item[1]))[:10]:
        lengths.sort()
        lines.append(
            f"  task {name}: {len(lengths):,} runs, {_seconds(sum(lengths))} in all, "
            f"median {_seconds(lengths[len(lengths) // 2])}, longest {_seconds(lengths[-1])}"
        )
    for length, thread, thing in sorted(waits, reverse=True)[:5]:
        lines.append(f"  wait of {_seconds(length)}: {thread} for {thing}")
    if timeline.about.get("dropped"):
        lines.append("  the recording was full: what came later is not in it")
    return "\n".join(lines)


def _seconds(us: float) -> str:
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} µs"
