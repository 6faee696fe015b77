"""Writes into pages what their programs print, where it differs from what they say:

python tests/docs/fill.py docs/guide/threads.md ...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pages
import running


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        page = pages.read(path.resolve())
        programs = [p for p in page.programs if "not run" not in p.comments]
        text, at = path.read_text(), 0
        with tempfile.TemporaryDirectory() as folder:
            results = running.run(page, programs, Path(folder), at_once=1)
        for program, ran in zip(programs, results, strict=True):
            said = running.expected(program)
            at = text.index(program.text, at)
            if ran.code != int(program.comments.get("exits", 0)):
                print(f"{program.place}: exit code {ran.code}\n{ran.output}")
            elif said is not None and (wrong := pages.difference(program, said, ran.output)):
                print(wrong)
                if program.language == "console":
                    text = text[:at] + ran.output + text[at + len(said) :]
                else:
                    fence = text.index("```", at + len(program.text)) + 3
                    start = text.index("\n", text.index("```", fence)) + 1
                    text = text[:start] + ran.output + text[start + len(said) :]
        path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
