"""The pool's README names files, functions and constants: all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
POOL = ROOT / "src/treadle/pool"
README = (POOL / "README.md").read_text()
FOLDERS = ("src", "tests", "benchmarks")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".c", ".h")]


def named() -> set[str]:
    """What stands between backticks, outside of the picture."""
    text = re.sub(r"```.*?```", "", README, flags=re.S)
    return set(re.findall(r"`([^`\s]+)`", text))


def test_files() -> None:
    there = {path.relative_to(ROOT).as_posix() for path in FILES}
    names = {name for name in named() if re.fullmatch(r"[\w./]+\.(py|c|h)", name)}
    assert len(names) > 30
    assert {name for name in names if not any(f"/{path}".endswith(f"/{name}") for path in there)} == set()
    folders = {name for name in named() if name.endswith("/")}
    assert folders
    assert {name for name in folders if not (POOL / name).is_dir() and not (ROOT / name).is_dir()} == set()


def test_names() -> None:
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in FILES if path != Path(__file__))))
    names = {name for name in named() if re.fullmatch(r"[A-Za-z_.]+", name) and not name.endswith((".py", ".c", ".h"))}
    assert len(names) > 100
    assert {name for name in names if not set(name.split(".")) - {""} <= words} == set()


def test_links() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (POOL / link).exists()] == []
