"""The demo: `treadle map` over the standard library's own source (CPU), and over slow web pages (IO).

It runs the command as a user would type it, in a temporary directory, and shows what was found.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from treadle.examples.slow_server import slow_server

PAGES = 200


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="treadle-demo-") as name:
        folder = Path(name)
        title("CPU: measure every .py file of this Python's standard library")
        library = Path(sysconfig.get_path("stdlib"))
        files = [str(path) for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts]
        write_lines(folder / "files.txt", files)
        measuring = treadle(folder, "treadle.examples.jobs:measure", "files.txt", "-o", "measured.jsonl")

        title(f"IO: get {PAGES} pages from a web server that takes its time")
        with slow_server() as address:
            write_lines(folder / "urls.txt", [f"{address}/{number}" for number in range(PAGES)])
            fetching = treadle(
                folder, "treadle.examples.jobs:fetch", "urls.txt", "-o", "pages.jsonl", "--workers", "40"
            )

            title("The same job, killed with kill -9 in the middle, and resumed")
            again = ("treadle.examples.jobs:fetch", "urls.txt", "-o", "again.jsonl", "--workers", "40")
            kill_in_the_middle(folder, *again)
            treadle(folder, *again, "--resume")

        title("What was found")
        report(folder, library, measuring, fetching)
    return 0


def title(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def treadle(folder: Path, *args: str) -> float:
    """Run `treadle map ARGS` and return the seconds that it took.  Failed items are no failure of the demo."""
    began = time.monotonic()
    with started(folder, *args) as process:
        code = process.wait()
    if code not in (0, 1):
        sys.exit(code)
    return time.monotonic() - began


def kill_in_the_middle(folder: Path, *args: str) -> None:
    """Run `treadle map ARGS -o OUT` until a quarter of the pages are in OUT, then kill it."""
    out = folder / args[args.index("-o") + 1]
    with started(folder, *args, "--no-progress") as process:
        while process.poll() is None and lines_in(out) < PAGES // 4:
            time.sleep(0.01)
        process.kill()
    print(f"killed; {lines_in(out)} results are in {out.name}\n", flush=True)


@contextlib.contextmanager
def started(folder: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running `treadle map ARGS`, after printing its command line."""
    print("$", shlex.join(["treadle", "map", *args]), flush=True)
    with subprocess.Popen([sys.executable, "-m", "treadle", "map", *args], cwd=folder) as process:
        try:
            yield process
        except KeyboardInterrupt:
            process.wait()  # it got the Ctrl-C too, and says so itself
            sys.exit(130)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def report(folder: Path, library: Path, measuring: float, fetching: float) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    measured, failed = rows(folder / "measured.jsonl"), rows(folder / "measured.jsonl.errors.jsonl")
    pages = rows(folder / "pages.jsonl")
    table = Table("", "", "", show_header=False)

    def most(key: str) -> tuple[str, str]:
        row = max(measured, key=lambda row: row["result"][key])
        return f"{row['result'][key]:,}", str(Path(row["input"]).relative_to(library))

    def total(key: str) -> int:
        return sum(row["result"][key] for row in measured)

    table.add_row("files", f"{len(measured):,}", f"{total('lines'):,} lines, {total('bytes') / 1e6:,.0f} MB")
    table.add_row("largest file, bytes", *most("bytes"))
    table.add_row("deepest nesting, blocks", *most("deepest"))
    table.add_row("most functions", *most("functions"))
    example = f"{Path(failed[0]['input']).name}: {failed[0]['type']}" if failed else ""
    table.add_row("not Python, kept apart", f"{len(failed):,}", example)
    table.add_row("throughput", f"{len(measured) / measuring:,.0f} files/s", f"{measuring:.1f} s", end_section=True)
    waited = sum(row["result"]["seconds"] for row in pages)
    table.add_row("pages", f"{len(pages):,}", f"{len(pages) / fetching:,.0f} pages/s")
    table.add_row("time", f"{fetching:.1f} s", f"sum of the waits: {waited:.0f} s")
    resumed = sorted(row["index"] for row in rows(folder / "again.jsonl"))
    table.add_row("after kill -9 and --resume", f"{len(resumed):,}", verdict(resumed))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def verdict(indexes: list[int]) -> str:
    return "every page once" if indexes == list(range(PAGES)) else "PAGES ARE MISSING OR DOUBLE"


if __name__ == "__main__":
    sys.exit(main())
