"""``python -m benchmarks``; see the package's docstring."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import import_module

from . import paired
from .harness import run

GROUPS = (
    "brain",
    "pool",
    "pool_start",
    "pool_faces",
    "sync",
    "sync_shared",
    "queues_shared",
    "managers",
    "trace",
    "board",
)


def main() -> int:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="treadle and its peers in one run")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, three rounds")
    parser.add_argument(
        "--rounds", type=int, default=None, help="rounds a row (default 7; of pairs 41; quick: 3 and 9)"
    )
    arguments = parser.parse_args()
    for group in arguments.groups:
        if group not in GROUPS:
            parser.error(f"no group {group!r}; there are {', '.join(GROUPS)}")
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs; x = how many times as long as treadle (median)")
    for group in arguments.groups or GROUPS:
        module = import_module(f".{group}", __package__)
        for row in module.rows() if hasattr(module, "rows") else ():
            run(row, rounds, 0.2 if arguments.quick else 1.0)
        for pair in module.pairs() if hasattr(module, "pairs") else ():
            paired.run(pair, arguments.rounds or (9 if arguments.quick else 41))
        if hasattr(module, "parent_cpu"):
            module.parent_cpu()
    return 0


if __name__ == "__main__":
    sys.exit(main())
