"""``python -m benchmarks``; see the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from . import paired
from .harness import run, sweep, sweep_text, text
from .machine import python_name
from .store import Store

GROUPS = (
    "brain", "pool", "pool_start", "pool_faces", "sync", "sync_shared", "queues_shared", "managers", "real_work",
    "pipeline", "memory", "clusters", "trace", "board", "scaling", "scaling_threads",
)  # fmt: skip


def main() -> int:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="treadle and its peers in one run")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, three rounds")
    parser.add_argument("--rounds", type=int, default=None, help="of a row (default 5, of pairs 41; quick: 3, 9)")
    parser.add_argument("--only", action="append", metavar="TITLE", help="only rows with this in their titles")
    parser.add_argument("--row", metavar="TITLE", help="only this row")
    parser.add_argument("--list", action="store_true", help="print groups and titles of what would run")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the results there, for the report")
    arguments = parser.parse_args()
    for group in arguments.groups:
        if group not in GROUPS:
            parser.error(f"no group {group!r}; there are {', '.join(GROUPS)}")
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    scale = 0.2 if arguments.quick else 1.0
    store = Store(arguments.save) if arguments.save else None
    if store and not arguments.list:
        store.begin(arguments.quick)
    if not arguments.list:
        print(f"Python {python_name()}, {os.cpu_count()} CPUs; x = how many times as long as treadle (median)")
    for group in arguments.groups or GROUPS:
        module = import_module(f".rows.{group}", __package__)
        if arguments.list and hasattr(module, "TOGETHER"):
            if not arguments.quick:
                print(group, "", sep="\t")
            continue
        for row in module.rows() if hasattr(module, "rows") else ():
            if not _asked_for(row.title, arguments):
                continue
            if arguments.list:
                if row.quick or not arguments.quick:
                    print(group, row.title, sep="\t")
                continue
            seen = run(row, rounds, scale)
            print(text(row.title, row.unit, seen), flush=True)
            if store:
                store.add_row(group, row, seen)
        for pair in module.pairs() if hasattr(module, "pairs") else ():
            if not _asked_for(pair.title, arguments):
                continue
            if arguments.list:
                if not arguments.quick:  # a fraction of a percent takes its time
                    print(group, pair.title, sep="\t")
                continue
            seen = paired.run(pair, arguments.rounds or (9 if arguments.quick else 41))
            print(text(pair.title, "us", seen), flush=True)
            if store:
                store.add_row(group, paired.row(pair), seen)
        if hasattr(module, "instructions"):
            module.instructions()
        for each in module.sweeps() if hasattr(module, "sweeps") else ():
            if not _asked_for(each.title, arguments):
                continue
            if arguments.list:
                print(group, each.title, sep="\t")
                continue
            if arguments.quick:
                each = each._replace(points=tuple(point for point in each.points if point <= each.quick))
            lines = sweep(each, min(rounds, 3), scale)
            print(sweep_text(each.title, each.axis, lines), flush=True)
            if store:
                store.add_sweep(group, each, lines)
    return 0


def _asked_for(title: str, arguments: argparse.Namespace) -> bool:
    if arguments.row is not None:
        return bool(title == arguments.row)
    return not arguments.only or any(part in title for part in arguments.only)


if __name__ == "__main__":
    sys.exit(main())
