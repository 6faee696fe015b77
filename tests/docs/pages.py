"""The programs of the documentation, and what it says that they print.

A program is a block of `python`, run as a file of its own, or of `console`, whose lines with `$ ` are run by a shell.
A block without a language right behind a program is its output, `...` standing for any text or any lines.  Comments,
which readers don't see, say what differs from that.  In front of the program:

    <!-- file: NAME -->        a file that programs further down use, whatever its language; it is not run
    <!-- called: NAME -->      its file's name
    <!-- given: STATEMENTS --> what runs before the program
    <!-- exits: N -->          its exit code, if not 0; its standard error is part of the output then
    <!-- not run: REASON -->   what can't be run everywhere

and in front of the output (of a `console` block: in front of it):

    <!-- numbers vary -->      each number stands for any number
    <!-- any order -->         of the lines
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_COMMENT = r"<!--(?:(?!-->)[\s\S])*-->\s*"
_BLOCK = re.compile(
    rf"(?P<comments>(?:^{_COMMENT})*)^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>[\s\S]*?)^(?P=fence)\n", re.M
)
_RAW = re.compile(r"<!--\s*(?P<word>[a-z ]+?)(?::\s*(?P<value>[\s\S]*?))?\s*-->")
KNOWN = {"file", "called", "given", "exits", "not run", "numbers vary", "any order"}


@dataclass
class Program:
    """One program of a page."""

    page: Path
    line: int
    language: str
    text: str
    comments: dict[str, str]
    output: str | None = None  # None: the page doesn't show any
    said: dict[str, str] = field(default_factory=dict)  # the comments of the output

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def key(self) -> tuple[str, ...]:
        """Programs that differ in their comments only are the same (a translation's, and the original)."""
        text = ast.dump(ast.parse(self.text)) if self.language == "python" else self.text
        return text, self.output or "", *self.comments.values(), *self.said


@dataclass
class Page:
    """A page: its files, and its programs in their order."""

    files: dict[str, str]
    programs: list[Program]


def read(path: Path) -> Page:
    page = Page({}, [])
    text = path.read_text()
    end: int | None = None  # of the program before, while nothing else has come
    for match in _BLOCK.finditer(text):
        comments = {c["word"]: c["value"] or "" for c in _RAW.finditer(match["comments"])}
        assert set(comments) <= KNOWN, f"{path}: {sorted(set(comments) - KNOWN)} means nothing"
        language = match["language"].strip()
        if language in ("", "text") and end is not None and not text[end : match.start()].strip():
            page.programs[-1].output, page.programs[-1].said = match["text"], comments
        elif "file" in comments:
            page.files[comments["file"]] = match["text"]
        elif language in ("python", "console"):
            line = text.count("\n", 0, match.start("fence")) + 1
            page.programs.append(Program(path, line, language, match["text"], comments))
            if language == "console":
                page.programs[-1].said = comments
            end = match.end()
            continue
        end = None
    return page


def difference(program: Program, expected: str, got: str) -> str | None:
    """None if a program has printed what its page says, else a text about it."""
    expected, got = (_loose(text, program.said) for text in (expected, got))
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
        for line in expected.splitlines()
    )
    if re.fullmatch(pattern, got):
        return None
    return f"{program.place}: the page says\n{expected}\nit printed\n{got}"


def _loose(text: str, said: dict[str, str]) -> str:
    """Without what differs from run to run."""
    lines = [line.rstrip() for line in text.splitlines()]
    if "any order" in said:
        lines.sort()
    text = "".join(f"{line}\n" for line in lines)
    text = re.sub(r"\b(worker|pid) \d+", r"\1 N", text)
    text = re.sub(r"\b0x[0-9a-f]+", "0xN", text)
    text = re.sub(r"\S*/(?=[\w-]+\.py\b)", "", text)
    text = re.sub(r"\d+ % of the first .* was", "N % was", text)
    if "numbers vary" in said:
        text = re.sub(r"\d[\d,.]*\d|\d", "N", text)
    return text
