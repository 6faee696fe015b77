"""C tests as programs, built plain and with each sanitizer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "src/treadle/_native"
PURE = ("system", "board", "memory")  # the folders that know nothing of Python, nor of anything above them
KINDS = ["plain", "address", "thread"]
COMPILER = shutil.which("cc") or shutil.which("gcc")

MARKS = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(not NATIVE.exists(), reason="not a source tree"),
    pytest.mark.timeout(240),
]


def build(name: str, kind: str, where: Path) -> str:
    """The program of `name`.c and the core without Python.  Skips where the compiler lacks the sanitizer."""
    program = str(where / f"{name}_{kind}")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-DTREADLE_DEBUG", "-pthread"]
    if kind != "plain":
        flags.append(f"-fsanitize={kind}")
    sources = [HERE / f"{name}.c", *(path for folder in PURE for path in sorted((NATIVE / folder).glob("*.c")))]
    command = [str(COMPILER), *flags, f"-I{NATIVE}", *map(str, sources), "-o", program]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and kind != "plain" and "cannot find" in done.stderr:
        pytest.skip(f"this compiler has no {kind} sanitizer")
    assert done.returncode == 0, done.stderr
    return program


def run(program: str, *arguments: str) -> str:
    """What it prints.  It must end well, and ThreadSanitizer have nothing to say."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING: ThreadSanitizer" not in done.stderr
    return done.stdout
