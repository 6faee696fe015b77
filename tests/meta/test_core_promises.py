"""The core's promises to itself: what orders what, who touches the system, what may lie in shared memory."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

NATIVE = Path(__file__).parents[2] / "src/treadle/_native"


def sources() -> dict[str, str]:
    return {path.relative_to(NATIVE).as_posix(): path.read_text() for path in sorted(NATIVE.rglob("*.[ch]"))}


def test_sync_points_pair_up() -> None:
    """A comment SYNC POINT: name stands on both sides of what it orders, and in the README where it matters."""
    found = Counter(
        name for text in sources().values() for name in re.findall(r"SYNC POINT: (\w+)", text)
    )  # fmt: skip
    alone = {name for name, count in found.items() if count < 2}
    readme = (NATIVE / "README.md").read_text()
    assert found
    assert {name for name in alone if f"SYNC POINT: {name}" not in readme} == set()


def test_only_one_file_touches_the_system() -> None:
    system = re.compile(r"#include <(sys/|linux/|unistd|fcntl|sched|signal|time\.h)")
    assert [name for name, text in sources().items() if system.search(text) and name != "system/os_linux.c"] == []


def test_no_pointers_in_shared_memory() -> None:
    text = "".join((NATIVE / name).read_text() for name in ("board/board.h", "board/gauge.h", "memory/arena.h"))
    for struct in ("tl_hot", "tl_cold", "tl_board_head", "tl_gauge", "tl_arena_head", "tl_slot", "tl_entry"):
        body = re.search(rf"struct {struct} \{{(.*?)\n\}};", text, re.S)
        assert body is not None
        assert "*" not in re.sub(r"/\*.*?\*/", "", body[1], flags=re.S)
