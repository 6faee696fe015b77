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
import tempfile
import time
import tomllib
from pathlib import Path

from .store import FOLDER, Store

LIMIT = 180  # seconds a row
ROOT = Path(__file__).parent.parent
BUILT = "numpy,matplotlib,ray,pyzmq"  # these as wheels or not at all
# On a free-threaded Python what is about threads; most peers can't be built for it.
FREE_THREADED_GROUPS = ("sync", "scaling_threads")
FREE_THREADED_PEERS = ("aiologic", "culsans")
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


def prepare(python: str) -> str | None:
    """A virtual environment of that Python with treadle and what peers it can have: its interpreter, or None."""
    said = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, check=True, cwd=ROOT)
    name = said.stdout.strip()
    folder = ROOT / "build" / "bench" / f"venv-{name}"
    inside = str(folder / "bin" / "python")
    if not folder.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-e", "."], cwd=ROOT).returncode:
        print(f"Python {name} is left out: treadle can't be installed there", flush=True)
        return None
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    wanted = [each for each in peers() if not name.endswith("t") or each.startswith(FREE_THREADED_PEERS)]
    if subprocess.run([*pip, "--only-binary", BUILT, *wanted], **quiet).returncode:
        for peer in wanted:  # one that can't be had there does not keep the others away
            subprocess.run([*pip, "--only-binary", BUILT, peer], **quiet)
    return inside


def peers() -> list[str]:
    """What the extra of the benchmarks asks for, but for treadle itself."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    return [each for name in ("bench", "dask", "ray") for each in extras[name] if not each.startswith("treadle")]


def measure(python: str, store: Store, groups: tuple[str, ...], arguments: list[str], prefix: list[str]) -> None:
    """All rows on one Python."""
    quick = [each for each in arguments if each == "--quick"]
    listed = subprocess.run(
        [python, "-m", "benchmarks", "--list", *quick, *groups], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for line in listed.stdout.splitlines():
        group, title = line.split("\t")
        command = [*prefix, python, "-m", "benchmarks", group, "--save", str(FOLDER), *arguments]
        trouble = _one([*command, "--row", title] if title else command, LIMIT if title else 20 * LIMIT)
        after = Store(FOLDER, store.path.stem)  # what the process has written
        if trouble:
            print(f"\n{title}\n  {trouble}", flush=True)
            after.add_trouble(group, title or "all of it", trouble)
        else:
            after.drop_trouble(group, title or "all of it")


def _one(command: list[str], limit: float = LIMIT) -> str:
    """Run a row; what went wrong, or an empty string."""
    log = ROOT / "build" / "bench" / "stderr.log"  # peers say much
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # A file, not a pipe: what a peer leaves behind would hold its other end.
    with log.open("ab") as noise, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=noise, cwd=ROOT, start_new_session=True
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"did not end in {limit:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # whatever is left of the row
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        print("\n".join(out.read().decode().splitlines()[1:]), f"\n  ({time.monotonic() - began:.1f} s)", flush=True)
    return f"exit code {process.returncode}; see {log.relative_to(ROOT)}" if process.returncode else ""


def main() -> int:
    """What `make bench` runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, on this Python only")
    parser.add_argument("--groups", default="", help="only these, beside what was measured of the others before")
    parser.add_argument("--prefix", default="", help="what each row's command begins with: taskset, nice, flock ...")
    options = parser.parse_args()
    began, prefix = time.monotonic(), shlex.split(options.prefix)
    only = tuple(options.groups.split())
    if not only:
        shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    # Environments of their own: what the peers ask for is not what the tests and checks are to run with.
    pythons = list(filter(None, map(prepare, [sys.executable, *([] if options.quick else other_pythons())])))
    for index, python in enumerate(pythons):
        said = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, check=True, cwd=ROOT)
        name = said.stdout.strip()
        print(f"\n== Python {name}; x = how many times as long as treadle (median)")
        arguments = ["--quick"] if options.quick or index else []
        if index and not options.quick:
            arguments += ["--rounds", "5"]
        groups = only
        if name.endswith("t"):
            groups = tuple(group for group in FREE_THREADED_GROUPS if group in only or not only)
            if not groups:
                continue
        measure(python, Store(FOLDER, name), groups, arguments, prefix)
    # The published results are those of a whole run.
    target = ROOT / ("build/bench" if options.quick else "benchmarks")
    where = [str(FOLDER), str(target / "RESULTS.md"), str(target / "pictures")]
    subprocess.run([pythons[0], "-m", "benchmarks.report", *where], check=True, cwd=ROOT)
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
