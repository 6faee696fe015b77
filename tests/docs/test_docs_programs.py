"""Every program of README and docs/ runs, and prints what its page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pages
import running

pytestmark = pytest.mark.once

PAGES = {str(path.relative_to(pages.ROOT)): pages.read(path) for path in pages.PAGES}


def test_there_are_programs_with_outputs() -> None:
    shown = [program for page in PAGES.values() for program in page.programs if running.expected(program)]
    assert len(shown) > 80
    for program in (program for page in PAGES.values() for program in page.programs):
        assert program.comments.get("not run") != "", f"{program.place}: why not?"


def test_links_lead_somewhere() -> None:
    """Those in docs/ are checked by `make docs`."""
    for path in pages.ROOT.glob("*.md"):
        links = re.findall(r"\]\(([^)#]+)", path.read_text())
        assert links or not path.name.startswith("README")
        assert not [link for link in links if "://" not in link and not (pages.ROOT / link).exists()], path.name


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.programs])
def test_a_page(name: str, tmp_path: Path) -> None:
    others = {program.key for other in PAGES if _first(other) < _first(name) for program in PAGES[other].programs}
    page = PAGES[name]
    programs = [p for p in page.programs if "not run" not in p.comments and p.key not in others]
    problems = []
    for program, ran in zip(programs, running.run(page, programs, tmp_path) if programs else [], strict=True):
        code = int(program.comments.get("exits", 0))
        if ran.code != code:
            problems.append(f"{program.place}: exit code {ran.code}, not {code}; it printed\n{ran.output}")
        elif (said := running.expected(program)) is not None:
            problems += filter(None, [pages.difference(program, said, ran.output)])
    assert not problems, "\n".join(problems)


def _first(name: str) -> tuple[bool, str]:
    """Where a page comes; translations come last."""
    return ("zh" in Path(name).stem or "zh" in Path(name).parts, name)
