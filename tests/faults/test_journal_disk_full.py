"""No space for results: a clear sentence, an intact journal, and --resume goes on once there is space."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle.cli.job.files import LineFile
from treadle.cli.problems import Unwritable

JOB = "def work(x):\n    if x % 10 == 9: raise ValueError('no ' * 100)\n    return 'result ' * 50\n"


def treadle(folder: Path, *args: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """`treadle map ARGS` in `folder`; `limit` is the largest file that it may write, in bytes."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-B", "-m", "treadle", "map", "job:work", *args, "--no-progress"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=50, preexec_fn=restrict
    )


def prepare(folder: Path, items: int) -> None:
    (folder / "job.py").write_text(JOB)
    (folder / "in").write_text("".join(f"{number}\n" for number in range(items)))


def indexes(path: Path) -> list[int]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line)["index"] for line in data.splitlines()]


@pytest.mark.parametrize("limit", [1_000, 7_777, 20_000])
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: int) -> None:
    prepare(tmp_path, 100)
    ran = treadle(tmp_path, "in", "-o", "out", "--engine", "threads", limit=limit)
    assert ran.returncode == 3
    assert ran.stderr == (
        "treadle map: cannot write out: File too large; what is in out is intact, and --resume goes on from there\n"
    )
    assert (tmp_path / "out").stat().st_size <= limit
    written = indexes(tmp_path / "out")
    assert 0 < len(written) < 90

    ran = treadle(tmp_path, "in", "-o", "out", "--engine", "threads", "--resume")
    assert ran.returncode == 1
    assert f"{len(written)} were done before; {90 - len(written)} done, 10 failed in " in ran.stderr
    assert indexes(tmp_path / "out") == [x for x in range(100) if x % 10 != 9]
    assert indexes(tmp_path / "out.errors.jsonl") == [x for x in range(100) if x % 10 == 9]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "treadle-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_full_disk(small_disk: Path, engine: str) -> None:
    prepare(small_disk, 1000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 150_000)
    ran = treadle(small_disk, "in", "-o", "out", "--engine", engine)
    assert ran.returncode == 3, ran.stderr
    assert "No space left on device" in ran.stderr
    assert "--resume goes on from there" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    written = indexes(small_disk / "out")
    assert written == [x for x in range(1000) if x % 10 != 9][: len(written)]

    again = treadle(small_disk, "in", "-o", "out", "--engine", engine, "--resume")
    assert again.returncode == 3, "still full"
    assert indexes(small_disk / "out")[: len(written)] == written

    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    ran = treadle(small_disk, "in", "-o", "out", "--engine", engine, "--resume")
    assert ran.returncode == 1, ran.stderr
    assert indexes(small_disk / "out") == [x for x in range(1000) if x % 10 != 9]
    assert indexes(small_disk / "out.errors.jsonl") == [x for x in range(1000) if x % 10 == 9]
    assert sorted(path.name for path in small_disk.iterdir()) == ["in", "job.py", "out", "out.errors.jsonl"]


@pytest.mark.parametrize("where", ["-o", "stdout"])
def test_a_device_that_is_always_full(tmp_path: Path, where: str) -> None:
    prepare(tmp_path, 5)
    if where == "-o":
        ran = treadle(tmp_path, "in", "-o", "/dev/full")
        name = "/dev/full"
    else:
        command = [sys.executable, "-m", "treadle", "map", "job:work", "in", "--no-progress"]
        with open("/dev/full", "w") as full:
            ran = subprocess.run(
                command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=50
            )
        name = "standard output"
    assert ran.returncode == 3
    assert ran.stderr == f"treadle map: cannot write {name}: No space left on device\n"


def test_a_line_that_did_not_fit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = LineFile.open(tmp_path / "out")
    file.append(b"first\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(Unwritable, match="File too large"):
            file.append(b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "out").read_bytes() == b"first\n"
    file.append(b"second\n")
    assert (tmp_path / "out").read_bytes() == b"first\nsecond\n"
    file.close()
