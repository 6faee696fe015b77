"""The README's programs run, and print what it says (numbers of processes and of probes apart)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
# A program, and the output that is shown right behind it.
SHOWN = re.findall(r"```python\n((?:(?!```).)*)```\n```\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_programs_with_outputs() -> None:
    assert len(SHOWN) == 3


@pytest.mark.parametrize("place", range(len(SHOWN)))
def test_a_program_prints_what_the_readme_shows(place: int, tmp_path: Path) -> None:
    program, output = SHOWN[place]
    (tmp_path / "bank.py").write_text(program)
    ran = subprocess.run([sys.executable, "bank.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    expected = output.partition("...\n")[0].splitlines()
    got = ran.stdout.splitlines()
    assert [loose(line) for line in got[: len(expected)]] == [loose(line) for line in expected]
    assert len(got) == len(expected) or "...\n" in output


def loose(line: str) -> str:
    """Without what differs from run to run."""
    line = re.sub(r"worker \d+", "worker N", line)
    line = re.sub(r"made at \S*bank.py", "made at bank.py", line)
    return re.sub(r"\d+ % of the first .* was", "N % was", line)
