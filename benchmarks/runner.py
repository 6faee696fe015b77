"""All rows on all Pythons: ``python -m benchmarks.runner [--quick]``; what `make bench` runs.

Each row has a process of its own: what one contestant leaves behind (threads, segments, a cluster) does not disturb the
next row, and one that hangs costs only its row.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import report
from .store import FOLDER, Store

LIMIT = 180  # seconds a row
ROOT = Path(__file__).parent.parent
# On a free-threaded Python what is about threads; most peers can't be built for it.
FREE_THREADED_GROUPS = ("sync", "scaling_threads")
FACTS = "import sys; sys.path.insert(0, '.'); from benchmarks.machine import *; print(python_name())"


def other_pythons() -> list[str]:
    """Every CPython from 3.11 on that is present, but for this one's version; BENCH_PYTHONS says it better."""
    told = os.environ.get("BENCH_PYTHONS")
    if told is not None:
        return told.split()
    names = [f"python3.{minor}{kind}" for minor in range(15, 10, -1) for kind in ("", "t")]
    found = [shutil.which(name) for name in names]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found += sorted(str(path) for path in root.glob("versions/3.1[1-9]*/bin/python"))
    seen = {f"{sys.version_info[0]}.{sys.version_info[1]}"}
    kept = []
    for python in filter(None, found):
        said = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, cwd=ROOT)
        name = said.stdout.strip()
        version = ".".join(name.split(".")[:2]) + ("t" if name.endswith("t") else "")
        if said.returncode == 0 and version not in seen:
            seen.add(version)
            kept.append(python)
    return kept


def prepare(python: str) -> str:
    """A virtual environment of that Python with treadle and what peers it can have; its interpreter."""
    said = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, check=True, cwd=ROOT)
    folder = ROOT / "build" / "bench" / f"venv-{said.stdout.strip()}"
    inside = str(folder / "bin" / "python")
    if not folder.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if said.stdout.strip().endswith("t"):
        subprocess.run([*pip, "-e", "."], check=True, cwd=ROOT)
        for peer in ("aiologic", "culsans", "numpy"):
            subprocess.run([*pip, "--only-binary", "numpy", peer], cwd=ROOT, stderr=subprocess.DEVNULL)
    else:
        subprocess.run([*pip, "-e", ".[bench]"], check=True, cwd=ROOT)
    return inside


def measure(python: str, store: Store, groups: tuple[str, ...], arguments: list[str], prefix: list[str]) -> None:
    """All rows on one Python."""
    listed = subprocess.run(
        [python, "-m", "benchmarks", "--list", *groups], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for line in listed.stdout.splitlines():
        group, title = line.split("\t")
        command = [*prefix, python, "-m", "benchmarks", group, "--row", title, "--save", str(FOLDER), *arguments]
        trouble = _one(command)
        if trouble:
            print(f"\n{title}\n  {trouble}", flush=True)
            Store(FOLDER, store.path.stem).add_trouble(group, title, trouble)


def _one(command: list[str]) -> str:
    """Run a row; what went wrong, or an empty string."""
    log = ROOT / "build" / "bench" / "stderr.log"  # peers say much
    with log.open("ab") as noise:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=noise, cwd=ROOT, start_new_session=True
        )
        try:
            out, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"did not end in {LIMIT} s"
        finally:
            # What a peer has left behind in the row's session holds the pipe, or the CPU.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    sys.stdout.write("\n".join(out.decode().splitlines()[1:]) + "\n")
    sys.stdout.flush()
    return f"exit code {process.returncode}; see {log.relative_to(ROOT)}" if process.returncode else ""


def main() -> int:
    """What `make bench` runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, on this Python only")
    parser.add_argument("--prefix", default="", help="what each row's command begins with: taskset, nice, flock ...")
    options = parser.parse_args()
    began, prefix = time.monotonic(), shlex.split(options.prefix)
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    pythons = [sys.executable]
    if not options.quick:
        pythons += [prepare(python) for python in other_pythons()]
    for index, python in enumerate(pythons):
        said = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, check=True, cwd=ROOT)
        name = said.stdout.strip()
        print(f"\n== Python {name}; x = how many times as long as treadle (median)")
        arguments = ["--quick"] if options.quick or index else []
        if index and not options.quick:
            arguments += ["--rounds", "5"]
        groups = FREE_THREADED_GROUPS if name.endswith("t") else ()
        measure(python, Store(FOLDER, name), groups, arguments, prefix)
    report.write()
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
