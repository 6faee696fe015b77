"""The command line.  One file a command, parsing and printing only; what `treadle map` does stands in `cli.job`.

This module is also imported by every worker process (as the parent of `cli.job.target`), so it imports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (`sys.argv` by default) and return the exit code."""
    try:
        from treadle.cli.app import run

        return run(argv)
    except KeyboardInterrupt:
        return 130
