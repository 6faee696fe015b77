"""`treadle map` from its command line to its files and its exit code, without a pool."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle.cli.job.files import LineFile, lock
from treadle.errors import WorkerStartError

WORK = Path(__file__).parent / "cli_work.py"
OUT, ERRORS = Path("out.jsonl"), Path("out.jsonl.errors.jsonl")

Run = Callable[..., Any]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write(name: str, *lines: object) -> str:
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def job(function: str, *args: object) -> list[object]:
    return ["map", f"{WORK}:{function}", write("in", 0, 1, 2, 3, 4), *args]


def test_results_go_to_stdout_and_failures_to_stderr_as_a_line_each(run: Run) -> None:
    ran = run("map", f"{WORK}:fails_on_odd", write("in", 1, 2, '"x"'), "--no-progress", "--retries", 1)
    assert ran.code == 1
    assert ran.out == '{"index": 1, "input": 2, "result": 2}\n'
    errors = ran.err.splitlines()
    assert errors[0] == "treadle map: item 0, 1, failed: ValueError: 1 is odd (2 attempts)"
    assert errors[1].startswith('treadle map: item 2, "x", failed: TypeError: ')
    assert errors[2].startswith("treadle map: 1 done, 2 failed in ")
    assert len(errors) == 3


def test_results_and_failures_go_to_two_files(run: Run) -> None:
    ran = run(*job("fails_on_odd", "-o", OUT))
    assert ran.code == 1
    assert ran.out == ""
    assert rows(OUT) == [{"index": i, "input": i, "result": i} for i in (0, 2, 4)]
    assert [(row["index"], row["input"], row["type"], row["message"], row["attempts"]) for row in rows(ERRORS)] == [
        (1, 1, "ValueError", "1 is odd", 1),
        (3, 3, "ValueError", "3 is odd", 1),
    ]
    assert "fails_on_odd" in rows(ERRORS)[0]["traceback"]
    assert "3 done, 2 failed" in ran.err
    assert "failures in out.jsonl.errors.jsonl" in ran.err
    assert "fake: for tests" in ran.err


def test_all_well_is_exit_code_0_and_no_error_file(run: Run) -> None:
    ran = run(*job("double", "-o", OUT, "--no-progress"))
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert [row["result"] for row in rows(OUT)] == [0, 2, 4, 6, 8]
    assert not ERRORS.exists()


def test_the_options_reach_the_pool(run: Run, fake_map: list[dict[str, Any]]) -> None:
    args = ["--engine", "threads", "--workers", 3, "--timeout", 1.5, "--retries", 2, "--unordered"]
    assert run(*job("double", *args)).code == 0
    assert run(*job("double")).code == 0
    common = {"on_error": "return", "prefetch": False, "address": None}
    assert fake_map == [
        {"engine": "threads", "workers": 3, "timeout": 1.5, "retries": 2, "ordered": False, **common},
        {"engine": "auto", "workers": None, "timeout": None, "retries": 0, "ordered": True, **common},
    ]


def test_a_result_that_is_not_json_is_that_items_failure(run: Run) -> None:
    ran = run("map", f"{WORK}:not_json", write("in", "set", "nan", "deep", "fine"), "-o", OUT)
    assert ran.code == 1
    assert [row["result"] for row in rows(OUT)] == ["fine"]
    assert [(row["input"], row["type"]) for row in rows(ERRORS)] == [
        ("set", "ResultNotJson"),
        ("nan", "ResultNotJson"),
        ("deep", "ResultNotJson"),
    ]


def test_a_line_that_is_not_json_is_that_items_failure_and_can_be_mended(run: Run) -> None:
    args = ["-o", OUT, "--as", "json"]
    ran = run("map", f"{WORK}:double", write("in", 1, "oops", 3), *args)
    assert ran.code == 1
    assert [row["index"] for row in rows(OUT)] == [0, 2]
    (error,) = rows(ERRORS)
    assert (error["index"], error["input"], error["type"], error["attempts"]) == (1, "oops", "BadLine", 0)
    assert error["message"].startswith("line 2 of in is not JSON")
    ran = run("map", f"{WORK}:double", write("in", 1, 2, 3), *args, "--resume")
    assert ran.code == 0
    assert [row["result"] for row in rows(OUT)] == [2, 4, 6]
    assert not ERRORS.exists()


def test_glob_gives_paths_without_the_jobs_own_files(run: Run) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write(name)
    for extra in ([], ["--resume"]):
        ran = run("map", "os.path:getsize", "--glob", "*.jsonl", "-o", OUT, *extra)
        assert ran.code == 0, ran.err
        assert [row["input"] for row in rows(OUT)] == ["a.jsonl", "b.jsonl"]


def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in", 1, 2)
    for args in (["-"], []):
        with open("in") as file:
            monkeypatch.setattr("sys.stdin", file)
            assert run("map", f"{WORK}:double", *args, "--no-progress").out.count("\n") == 2


def test_a_function_that_changes_its_item_does_not_change_the_record(run: Run) -> None:
    write("in", '{"a": 1}')
    assert run("map", f"{WORK}:changes_its_item", "in", "-o", OUT).code == 0
    assert rows(OUT) == [{"index": 0, "input": {"a": 1}, "result": 1}]
    assert run("map", f"{WORK}:changes_its_item", "in", "-o", OUT, "--resume").code == 0


# -- resume -----------------------------------------------------------------------------------------------------------


def test_resume_does_only_what_is_missing_and_ends_with_the_same_bytes(run: Run) -> None:
    run(*job("double", "-o", OUT))
    whole = OUT.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in ([], [0], [0, 1], [1, 3], [4, 2], [0, 1, 2, 3, 4]):
        for torn in (b"", b'{"index": 9, "inp'):
            OUT.write_bytes(b"".join(lines[k] for k in kept) + torn)
            ran = run(*job("double", "-o", OUT, "--resume"))
            assert ran.code == 0
            assert f"{5 - len(kept)} done" in ran.err
            assert ("were done before" in ran.err) == bool(kept)
            assert OUT.read_bytes() == whole


def test_an_unordered_job_keeps_the_order_of_its_runs(run: Run) -> None:
    run(*job("double", "-o", OUT, "--unordered"))
    assert [row["index"] for row in rows(OUT)] == [1, 0, 3, 2, 4]
    OUT.write_bytes(b"".join(OUT.read_bytes().splitlines(keepends=True)[:3]))
    run(*job("double", "-o", OUT, "--unordered", "--resume"))
    assert [row["index"] for row in rows(OUT)] == [1, 0, 3, 4, 2]


def test_failures_are_tried_again_and_only_those_that_still_fail_stay(run: Run, tmp_path: Path) -> None:
    module = "def f(x):\n    if x % 2: raise ValueError(x)\n    return x\n"
    (tmp_path / "flaky_one.py").write_text(module)
    assert run("map", "flaky_one:f", write("in", 0, 1, 2, 3), "-o", OUT).code == 1
    assert [row["index"] for row in rows(ERRORS)] == [1, 3]
    (tmp_path / "flaky_two.py").write_text(module.replace("x % 2", "x == 3"))
    assert run("map", "flaky_two:f", "in", "-o", OUT, "--resume").code == 1
    assert [row["index"] for row in rows(ERRORS)] == [3]
    assert [row["index"] for row in rows(OUT)] == [0, 1, 2], "in the order of the input"
    (tmp_path / "flaky_three.py").write_text("def f(x): return x\n")
    assert run("map", "flaky_three:f", "in", "-o", OUT, "--resume").code == 0
    assert not ERRORS.exists()
    assert [row["result"] for row in rows(OUT)] == [0, 1, 2, 3]


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ([0, 1, 99, 3, 4], "item 2 was 2 and is now 99"),
        ([0, 1, '"2"', 3, 4], "item 2 was 2 and is now"),
        ([0, 1], "it has 2 items, but item 2 was among them"),
        ([1, 2], "item 0 was 0 and is now 1"),
    ],
)
def test_another_input_is_refused(
    run: Run, changed: list[object], words: str, piped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("map", f"{WORK}:double", write("in", 0, 1, 2), "-o", OUT)
    before = OUT.read_bytes()
    write("in", *changed)
    name = "in"
    if piped:
        read, write_end = os.pipe()
        os.write(write_end, Path("in").read_bytes())
        os.close(write_end)
        name = f"/proc/self/fd/{read}"
    ran = run("map", f"{WORK}:double", name, "-o", OUT, "--resume", "--no-progress")
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert OUT.read_bytes() == before
    if piped:
        os.close(read)


def test_an_input_that_has_lost_a_failed_item_is_refused(run: Run) -> None:
    run("map", f"{WORK}:fails_on_odd", write("in", 0, 1), "-o", OUT)
    ran = run("map", f"{WORK}:fails_on_odd", write("in", 0), "-o", OUT, "--resume")
    assert ran.code == 2
    assert "it has 1 items, but item 1 was among them" in ran.err


def test_an_input_that_has_grown_is_welcome(run: Run) -> None:
    run("map", f"{WORK}:double", write("in", 0, 1), "-o", OUT)
    assert run("map", f"{WORK}:double", write("in", 0, 1, 2), "-o", OUT, "--resume").code == 0
    assert [row["result"] for row in rows(OUT)] == [0, 2, 4]


def test_resume_without_an_output_yet_just_begins(run: Run) -> None:
    assert run(*job("double", "-o", OUT, "--resume")).code == 0
    assert len(rows(OUT)) == 5


def test_an_output_with_results_is_refused_unless_told_what_to_do(run: Run) -> None:
    run(*job("fails_on_odd", "-o", OUT))
    before = OUT.read_bytes(), ERRORS.read_bytes()
    ran = run(*job("fails_on_odd", "-o", OUT))
    assert ran.code == 2
    assert "--resume" in ran.err
    assert "--overwrite" in ran.err
    assert (OUT.read_bytes(), ERRORS.read_bytes()) == before
    OUT.unlink()
    assert run(*job("fails_on_odd", "-o", OUT)).code == 2, "its failures alone are work too"
    assert run(*job("double", "-o", OUT, "--overwrite")).code == 0
    assert len(rows(OUT)) == 5
    assert not ERRORS.exists()


def test_two_at_a_time_are_refused(run: Run) -> None:
    run(*job("double", "-o", OUT))
    other = LineFile.open(OUT)
    lock(other)
    before = OUT.read_bytes()
    for option in ("--resume", "--overwrite"):
        ran = run(*job("double", "-o", OUT, option))
        assert ran.code == 2
        assert "another treadle is writing" in ran.err
    assert OUT.read_bytes() == before
    other.close()
    assert run(*job("double", "-o", OUT, "--resume")).code == 0


def test_a_symbolic_link_stays_one(run: Run) -> None:
    Path("real").touch()
    OUT.symlink_to("real")
    run(*job("double", "-o", OUT))
    lines = Path("real").read_bytes().splitlines(keepends=True)
    Path("real").write_bytes(lines[3])
    run(*job("double", "-o", OUT, "--resume"))
    assert OUT.is_symlink()
    assert Path("real").read_bytes() == b"".join(lines)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["json:dumps", "missing.txt"], "cannot read missing.txt: No such file"),
        (["no_module_of_this_name:f", "in"], "no module 'no_module_of_this_name'"),
        (["json:nope", "in"], "json has no function 'nope'"),
        ([f"{WORK}:not_a_function", "in"], "is not a function but of type int"),
        (["json", "in"], "write MODULE:FUNCTION"),
        (["json:dumps", "in", "--workers", "-3"], "-3"),
        (["json:dumps", "in", "--workers", "0"], "0"),
        (["json:dumps", "in", "--workers", "many"], "many"),
        (["json:dumps", "in", "--engine", "steam"], "'steam'"),
        (["json:dumps", "in", "--timeout", "-1"], "not a positive number of seconds"),
        (["json:dumps", "in", "--timeout", "nan"], "not a positive number of seconds"),
        (["json:dumps", "in", "--retries", "-1"], "-1"),
        (["json:dumps", "in", "--as", "xml"], "'xml'"),
        (["json:dumps", "in", "--no-such-option"], "--no-such-option"),
        (["json:dumps", "in", "--glob", "*"], "not both"),
        (["json:dumps", "--glob", "*.zzz"], "nothing matches"),
        (["json:dumps", "in", "--resume"], "need an output file"),
        (["json:dumps", "in", "-o", "o", "--resume", "--overwrite"], "choose one"),
        (["json:dumps", "in", "-o", "no/such/out"], "there is no directory no/such"),
        (["json:dumps", "in", "-o", "."], "it is a directory"),
        (["json:dumps", "in", "-o", "in", "--overwrite"], "the output must be another file"),
        (["json:dumps", "in", "-o", "/dev/null", "--resume"], "not a regular file"),
        ([], "Missing argument"),
    ],
)
def test_one_clear_sentence_and_exit_code_2(run: Run, args: list[str], words: str) -> None:
    write("in", 1)
    ran = run("map", *args)
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("treadle map: ")
    assert ran.out == ""
    assert Path("in").read_text() == "1\n"


def test_a_module_that_raises_shows_its_own_traceback(run: Run) -> None:
    Path("broken_here.py").write_text("def helper():\n    raise RuntimeError('at import')\nhelper()\n")
    ran = run("map", "broken_here:f", write("in", 1))
    assert ran.code == 2
    assert "in helper" in ran.err
    assert "RuntimeError: at import" in ran.err
    assert "treadle/cli" not in ran.err


def test_an_option_that_the_pool_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: object, **options: object) -> None:
        raise ValueError("workers must be less")

    monkeypatch.setattr(treadle, "map", refuses, raising=False)
    ran = run(*job("double"))
    assert (ran.code, ran.err) == (2, "treadle map: workers must be less\n")


# -- what ends a job early --------------------------------------------------------------------------------------------


def test_a_pool_that_can_not_go_on_is_one_sentence_and_leaves_the_journal(
    run: Run, fake_iterator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Collapses(fake_iterator):  # type: ignore[misc]
        def outcomes(self) -> Any:
            for outcome in super().outcomes():
                yield outcome
                if outcome.index == 1:
                    raise WorkerStartError("they all exited with code 7")

    monkeypatch.setattr(treadle, "map", lambda fn, items, **options: Collapses(fn, items), raising=False)
    ran = run(*job("double", "-o", OUT, "--no-progress"))
    assert ran.code == 3
    assert ran.err == (
        "treadle map: the workers cannot go on: they all exited with code 7; "
        "what is in out.jsonl is intact, and --resume goes on from there\n"
    )
    assert len(rows(OUT)) == 2


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_one_line_and_its_exit_code(run: Run, signum: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(
        f"import os\ndef f(x):\n    if x == 2: os.kill(os.getpid(), {int(signum)})\n    return x\n"
    )
    ran = run("map", "killer:f", write("in", 0, 1, 2, 3), "-o", OUT, "--no-progress")
    assert ran.code == code
    assert len(ran.err.splitlines()) == 1
    assert "2 results are in out.jsonl, and --resume goes on from there" in ran.err
    assert len(rows(OUT)) == 2
    assert run("map", f"{WORK}:same", "in", "-o", OUT, "--resume").code == 0
    assert [row["result"] for row in rows(OUT)] == [0, 1, 2, 3]


def test_an_output_that_can_not_be_opened(run: Run) -> None:
    Path("loop").symlink_to("loop")
    for args in (["-o", "loop"], ["-o", "x" * 300]):
        ran = run(*job("double", *args))
        assert ran.code in (2, 3)
        assert ran.err.startswith("treadle map: cannot write ")
        assert len(ran.err.splitlines()) == 1


def test_an_input_that_can_not_be_read_to_its_end(run: Run) -> None:
    ran = run("map", f"{WORK}:double", "/proc/self/mem", "-o", OUT)
    assert ran.code == 3
    assert "cannot read /proc/self/mem: Input/output error; what is in out.jsonl is intact" in ran.err


def test_an_output_that_is_no_regular_file_gets_the_results_and_no_journal(run: Run) -> None:
    assert run(*job("double", "-o", "/dev/null")).code == 0
    assert not Path("/dev/null.errors.jsonl").exists()
    assert run(*job("double", "-o", "/dev/stdout")).out.count("result") == 5
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDWR)
    assert run(*job("double", "-o", "pipe")).code == 0
    assert os.read(reader, 10_000).count(b"result") == 5
    os.close(reader)
    assert not Path("pipe.errors.jsonl").exists()


def test_help_says_what_matters(run: Run) -> None:
    ran = run("map", "--help")
    assert ran.code == 0
    for word in ("MODULE:FUNCTION", "--resume", "--overwrite", "Exit codes"):
        assert word in ran.out
