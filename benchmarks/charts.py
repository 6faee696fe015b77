"""The pictures of the report: a file a group."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

COLOURS = {"treadle": "#1b7f5c", "peer": "#5b7db1", "limit": "#b0b0b0"}
BEHIND = "#c2452d"
CYCLE = ("#5b7db1", "#c2752d", "#8c5bb1", "#b15b7d", "#7d7d2d", "#2d7d8c")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "treadle", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    # A file that checks of the sources leave alone: no blanks at the ends of lines.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def bars(group: str, rows: dict[str, dict[str, Any]], path: Path) -> bool:
    """How many times as long as treadle each one takes; False if there is nothing to compare."""
    entries: list[tuple[str, dict[str, Any] | None, float]] = []  # label, what was seen, goal
    for title, row in rows.items():
        others = [each for each in row["seen"][1:] if not each["trouble"] and each["ratio"] == each["ratio"]]
        if not others:
            continue
        entries.append((title, None, 0))
        entries.extend((each["name"], each, row["goals"].get(each["name"], 0)) for each in others)
    if not entries:
        return False
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.2 * len(entries)))
    for place, (label, each, goal) in enumerate(entries):
        if each is None:
            axes.text(0.0, place, label, transform=axes.get_yaxis_transform(), va="center", ha="left", weight="bold")
            continue
        ratio = each["ratio"]
        colour = BEHIND if each["kind"] == "peer" and ratio < 1 else COLOURS[each["kind"]]
        axes.barh(place, ratio - 1, left=1, color=colour, height=0.7)
        axes.plot([each["low"], each["high"]], [place, place], color="black", linewidth=0.8)
        if goal:
            axes.plot([goal], [place], marker="|", color="black", markersize=9, markeredgewidth=2)
        axes.annotate(
            f" {ratio:.3g}" if ratio < 999.5 else f" {ratio:,.0f}",
            (max(ratio, each["high"], 1), place),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(
        [place for place, (_, each, _) in enumerate(entries) if each is not None],
        [label for label, each, _ in entries if each is not None],
    )
    axes.invert_yaxis()
    axes.set_ylim(len(entries) - 0.4, -0.8)
    axes.set_xscale("log")
    axes.axvline(1, color=COLOURS["treadle"], linewidth=1.5)
    axes.margins(x=0.12)
    axes.set_xlabel("times as long as treadle (log); thin line: spread; thick mark: goal; grey: a limit of the machine")
    axes.set_title(group, loc="left", weight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _save(figure, path)
    pyplot.close(figure)
    return True


def lines(sweeps: list[tuple[str, str, dict[str, Any]]], path: Path) -> bool:
    """Seconds against the axis, log-log: title, Python and what was measured; one panel a title.

    Of the first Python, and of a free-threaded one, all of it; of the others treadle alone: more can't be told apart.
    """
    titles = list(dict.fromkeys(title for title, _, _ in sweeps))
    if not titles:
        return False
    pyplot = _pyplot()
    across = min(2, len(titles))
    down = math.ceil(len(titles) / across)
    figure, panels = pyplot.subplots(down, across, figsize=(5.2 * across, 4.2 * down), squeeze=False)
    for panel in panels.flat[len(titles) :]:
        panel.set_visible(False)
    for panel, title in zip(panels.flat, titles, strict=False):
        shown = [(python, sweep) for each, python, sweep in sweeps if each == title]
        for style, (python, sweep) in zip(("-", "--", "-.", (0, (1, 1))), shown, strict=False):
            colours, marks = iter(CYCLE), iter("os^D")  # treadle's lines have a colour in common
            for line in sweep["lines"]:
                kind = line["kind"]
                if kind != "treadle" and python != shown[0][0] and not python.endswith("t"):
                    continue
                colour = next(colours) if kind == "peer" else COLOURS[kind]
                name = line["name"] + (f", {python}" if len(shown) > 1 else "")
                panel.plot(
                    line["points"], line["seconds"], label=name, color=colour,
                    linestyle=style if kind != "limit" else ":",
                    marker=next(marks) if kind == "treadle" else ".", markersize=4,
                    linewidth=2 if kind == "treadle" else 1,
                )  # fmt: skip
            panel.set_xlabel(sweep["axis"])
            panel.set_ylabel("seconds for all" if sweep["whole"] else "seconds for each")
        panel.set_xscale("log")
        panel.set_yscale("log")
        points = sorted({x for _, sweep in shown for line in sweep["lines"] for x in line["points"]})
        if points and points[-1] <= 64:
            panel.set_xticks(points, [str(x) for x in points])
            panel.minorticks_off()
        panel.set_title(title, loc="left", weight="bold")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=6.5)
    figure.tight_layout()
    _save(figure, path)
    pyplot.close(figure)
    return True
