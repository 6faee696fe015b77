"""The C tests of the core, built plain and with each sanitizer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "src/treadle/_native"
SOURCES = ["board.c", "cycle.c", "guard.c", "lock.c", "os_linux.c", "park.c", "self.c"]
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(not NATIVE.exists(), reason="not a source tree"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="session", params=["plain", "address", "thread"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    where = tmp_path_factory.mktemp("core") / f"core_test_{request.param}"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-DTREADLE_DEBUG", "-pthread"]
    if request.param != "plain":
        flags.append(f"-fsanitize={request.param}")
    command = [COMPILER, *flags, f"-I{NATIVE}", str(HERE / "core_test.c"), *(str(NATIVE / name) for name in SOURCES)]
    done = subprocess.run([*command, "-o", str(where)], capture_output=True, text=True)
    if done.returncode and request.param != "plain" and "cannot find" in done.stderr:
        pytest.skip(f"this compiler has no {request.param} sanitizer")
    assert done.returncode == 0, done.stderr
    return str(where)


@pytest.mark.parametrize("name", ["threads", "limits", "dead_waiter", "order", "records"])
def test_core(program: str, name: str) -> None:
    done = subprocess.run([program, name], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING: ThreadSanitizer" not in done.stderr


@pytest.mark.parametrize("kills", [60, pytest.param(3000, marks=pytest.mark.heavy)])
def test_kills(program: str, kills: int) -> None:
    done = subprocess.run([program, "kills", str(kills)], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills" in done.stdout
