"""`treadle.map` finds the workers of the one before it, where that changes nothing but the time it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import behaviour_work as work
import pytest

import treadle


def pids(**how: Any) -> set[int]:
    return set(treadle.map(work.pid, range(20), engine="processes", workers=2, **how))


def test_the_next_map_finds_the_workers_of_the_last_one() -> None:
    assert pids() & pids() & pids()
    assert len(pids() | pids() | pids()) <= 2


def test_two_at_once_have_workers_of_their_own() -> None:
    first = treadle.map(work.pid, range(20), engine="processes", workers=1)
    second = treadle.map(work.pid, range(20), engine="processes", workers=1)
    assert next(first) != next(second)
    assert not set(first) & set(second)


def test_others_where_something_has_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = pids()
    monkeypatch.setenv("SOMETHING", "new")
    assert set(treadle.map(os.environ.get, ["SOMETHING"], engine="processes", workers=2)) == {"new"}
    after = pids()
    assert not before & after
    monkeypatch.chdir(tmp_path)
    assert not pids() & after
    assert not pids(start_method="spawn") & pids()


def test_a_map_that_was_left_early_takes_its_workers_with_it() -> None:
    with treadle.map(work.pid, range(1000), engine="processes", workers=1) as results:
        first = next(results)
    assert first not in pids()
    with pytest.raises(TypeError):
        list(treadle.map(len, [1, 2, 3], engine="processes", workers=2))
    assert len(pids()) <= 2


def test_auto_chooses_anew_for_each_map() -> None:
    first = treadle.map(work.hold, [0] * 40)
    assert len(set(first)) >= 1 and first.decision is not None
    waits = treadle.map(threading.Event().wait, [0.01] * 40)  # can't be pickled: threads
    assert list(waits) == [False] * 40
    assert waits.decision is not None and waits.decision.engine == "threads"
    again = treadle.map(work.pid, range(40))
    assert len(list(again)) == 40
    assert waits.decision.engine == "threads", "of that map, not of the one that has its pool now"


def test_counts_are_those_of_one_map() -> None:
    for count in (7, 3):
        results = treadle.map(abs, range(count), engine="threads")
        assert len(list(results)) == count
        stats = results.stats()
        assert stats is not None and stats.done == count and stats.workers == []


def test_a_forked_child_makes_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import os, treadle
print(len(set(treadle.map(abs, range(10), engine="processes", workers=2))), flush=True)  # or the child has it, too
pid = os.fork()
if pid == 0:
    print(len(set(treadle.map(abs, range(10), engine="processes", workers=2))), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(len(set(treadle.map(abs, range(10), engine="processes", workers=2))))
"""
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["10"] * 3, 0), done.stderr


def test_nothing_is_left_when_the_program_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import os, sys, treadle
sys.path.insert(0, sys.argv[1])
import behaviour_work as work
print(*set(treadle.map(work.pid, range(10), engine="processes", workers=2)))
"""
    )
    folder = str(Path(work.__file__).parent)
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = done.stdout.split()
    assert found and not any(Path(f"/proc/{pid}").exists() for pid in found)
