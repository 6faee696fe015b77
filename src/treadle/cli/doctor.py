"""`treadle doctor`: is this a good place for concurrent Python?"""

from __future__ import annotations

import dataclasses
import json

import click

from treadle.cli.problems import OK
from treadle.diagnose.health import Finding, examine

_WRONG = 1
_MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@click.command(name="doctor", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of findings.")
@click.option("--quick", is_flag=True, help="Measure nothing.")
def command(as_json: bool, quick: bool) -> int:
    """Print and judge the environment: Python, processors, limits, memory, start methods, and how fast things are here.

    Each line is a finding; what is not as it should be says what to do.  It takes a few seconds.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    found: list[Finding] = []
    for finding in examine(measure=not quick):
        found.append(finding)
        if not as_json:
            click.echo(f"{_MARKS[finding.verdict]}  {finding.name:18} {finding.text}")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    return _WRONG if any(finding.verdict == "wrong" for finding in found) else OK
