"""`treadle examples`: every example runs, as its user would run it, and shows what its docstring promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import treadle.examples
from treadle.cli.examples import find_examples
from treadle.examples.jobs import fetch, measure
from treadle.examples.slow_server import slow_server

EXAMPLES = find_examples()

FAILS = {"process_result"}  # shows a process that fails, which prints why

# What must be in the output of each, in this order: regular expressions.
SHOWS = {
    "auto_engine": ["waits: threads: .* waiting", "the sum is 780", "computes: processes: .* computing", "the sum is "],
    "bad_item": [
        "ValueError: invalid literal",
        "item 42 was 'forty-two', in worker process \\d+",
        "in parse",
        "99 good",
    ],
    "bounded_semaphore": [
        *(rf"^guest {number} sat on chair [ABC]$" for number in range(10)),
        "^ValueError: Semaphore released too many times$",
    ],
    "callbacks": ["100 callbacks", "328350", "in the main program: True", "in the main program: False"],
    "worker_context": [
        f"^{engine} \\['task 0 works for ann', 'task 1 works for bob', 'task 2 works for eve'\\]$"
        for engine in ("threads", "processes")
    ],
    "worker_logs": ["^28 is the sum$"],
    "unread_failure": ["^looked at: number 1 failed$", "^logged: A task failed, and nobody looked", "number 2 failed"],
    "closures": ["^1 2 3 4 5 6 7 8 9 10$", "^0 3 6 9 12 15 18 21 24 27$"],
    "condition": ["^the guest sees [0-2]$", "^the guest sees 3$", "^the guest eats soup bread cheese$"],
    "create_threads": [
        "^started: Thread-1 \\(run\\) and second$",
        "^t1 ran in Thread-1 \\(run\\)$",
        "^t2 ran in second$",
    ],
    "daemons": ["\\A10 daemons are running\nend\\Z"],
    "deadlock": [
        "\\ADeadlock: 2 threads wait for each other",
        "^thread '(left|right)'\n +holds +Lock '(warp|weft)' .*\n +waits for +Lock '(warp|weft)' .*, held by",
        "deadlock.py:17 in weave$",
        "^thread '(left|right)'\n +holds +Lock '(warp|weft)' .*\n +waits for +Lock '(warp|weft)' .*, held by",
        "deadlock.py:17 in weave$",
        "^(left|right) got both locks\\Z",
    ],
    "fifty_tasks": [" ".join(f"t-{number}" for number in range(50)), "50 tasks took"],
    "fifty_threads": ["\\At-\\d+ and 49 others run at the same time\\Z"],
    "full_queue": [
        "3 does not fit, said at once",
        "3 does not fit, said after 0.1 s",
        "taken: 1",
        "3 is in: \\[2, 3\\]",
    ],
    "futures_crash": [
        "^3 failed: WorkerDied: worker \\d+ was killed by SIGKILL while it ran work$",
        "^the others: \\[0, 1, 4, 16, 25\\]$",
        "^and on it goes: \\[0, 1, 4\\]$",
    ],
    "hanging_item": ["item 2 is fine", "item 3 failed: TaskTimeout: .* 1 s", "item 4 is fine", "item 5 is fine"],
    "cancel_running": ["^cancelled: True$", "^behind it: 1024$"],
    "memory_limit": ["^10 MB: bytearray$", "^5000 MB: MemoryLimitExceeded$", "^20 MB: bytearray$"],
    "infinite_input": ["^1 4 9 16 25 36 49 64 81 100$", "at most 30: True"],
    "interrupt": [
        "the waiting one cleans up",
        "wait ended by Interrupted",
        "the computing one cleans up",
        "compute ended by Interrupted",
    ],
    "join_all": ["^one_by_one: (0\\.[789]|[1-9]\\.\\d) s$", "^all_at_once: 0\\.[1-6] s$", "^end$"],
    "join_timeout": ["after join\\(0.1\\) it is still running: True", "after join\\(\\) it is still running: False"],
    "killed_owner": ["held by the other process: True", "got it 0\\.[0-4] s after", "warned: True"],
    "killed_worker": ["item 6 is fine", "item 7 failed: WorkerDied: .* SIGKILL", "item 8 is fine", "item 19 is fine"],
    "main_waits": ["\\Aend$", "^task 1: the main thread is alive: False\\Z"],
    "pipes": ["^loom -> LOOM$", "^warp -> WARP$", "^weft -> WEFT$", "the other process ended with 0"],
    "many_processes": ["^0 1 4 9 16 25 .* 361$", "processes: one or two"],
    "manager_file": [
        "\\Afound: {}$",
        "^found: {'runs': 1, 'run 1': 'some result'}$",
        "^found: {'runs': 2, 'run 1': 'some result', 'run 2': 'some result'}$",
        "^files: \\['state.db'\\]\\Z",
    ],
    "manager_ten_processes": [
        "\\Acount: 1000$",
        "^dict: \\[\\(0, 0\\), \\(1, 1\\), .*, \\(9, 81\\)\\]$",
        "^list: \\['process 0', .*, 'process 9'\\]\\Z",
    ],
    "manager_transaction": [
        "^moved, {'left': 70, 'right': 30} sum: 100$",
        "^killed, {'left': 70, 'right': 30} sum: 100$",
        "^moved, {'left': 40, 'right': 60} sum: 100$",
        "^not enough money, so nothing has changed: {'left': 40, 'right': 60}\\Z",
    ],
    "pool_apply": [f"^hello world {number}, from another process: True$" for number in range(10)],
    "pool_apply_async": [
        "^end$",
        "^callback \\d+, from another process: True$",
        "^100 callbacks; five processes at most: True$",
    ],
    "pool_initializer": ["^the sum of the squares is 328350$", "^tables: one or two$", "main program: {}$"],
    "pool_killed_worker": ["^4: 16$", "^5: killed by SIGKILL$", *(f"^{n}: {n * n}$" for n in range(6, 10))],
    "pool_waits": ["^end$", "task \\d", "task \\d", "task \\d", "now all are done"],
    "processes": [
        *(f"^task {n} runs in p{n}, a process of its own: True$" for n in range(1)),
        "^end:$",
        *(f"^  p{n} exited with 0$" for n in range(3)),
    ],
    "process_result": [
        "^the sum is 6$",
        "^the division failed: division by zero$",
        "^the third was killed: SIGKILL$",
    ],
    "process_queue": ["\\Aeaten: 0 1 2 3 4 5 6 7 8 9\\Z"],
    "producer_consumer": ["ate bone 0", "ate bone 19", "20 bones, never more than [1-5] waiting"],
    "producer_shutdown": [*["^ate bone [0-4] of p[12]$"] * 10, "the consumer is done, it ate 10"],
    "producer_task_done": [
        "made bone 0",
        "made bone 9",
        "made all bones",
        "all bones are eaten: 0 1 2 3 4 5 6 7 8 9\\Z",
    ],
    "queue_asyncio": [*(f"^{n} squared is {n * n}$" for n in range(5)), "both queues are shut down and empty"],
    "queue_orders": [
        "^Queue: treadle warp loom$",
        "^LifoQueue: loom warp treadle$",
        "^PriorityQueue: warp loom treadle$",
    ],
    "readers_writer": [
        "three readers are inside, a writer gets in: False",
        "a writer is inside, a reader gets in: False",
    ],
    "resume_job": ["-o out.jsonl$", "killed in the middle: True", "--resume$", "every item once, in order: True"],
    "retries": ["item 0 came at attempt 2", "item 1 .* 2", "no answer from 2, 3 attempts", "item 3 came at attempt 2"],
    "shared_array": ["\\Abytes shared: 8000000 - sent: less than 1000$", "^doubled: 1000\\.0\\Z"],
    "shared_counter": ["without a lock, steps were lost: True", "with a lock, 10 - 10 = 0"],
    "stream": ["^7 14 21 28 35 42 49 56 63 70$", "both were read: True"],
    "stop_and_go": ["counts: True", "stands still: True", "counts again: True", "cleaned up: True"],
    "task_done": [
        "^read a, .*: False$",
        "^read b, .*: False$",
        "^read c, .*: True$",
        "^all letters are read; unfinished: 0$",
    ],
    "thread_class": [
        "^squares-5 \\[0, 1, 4, 9, 16\\]$",
        "^squares-8 \\[0, 1, 4, 9, 16, 25, 36, 49\\]$",
    ],
    "thread_result": ["result: 42", "raised: invalid literal for int", "kept: \\['NoneType', 'ValueError'\\]"],
    "timers": ["\\Ahello, world\nworld was greeted after \\d", "^None was greeted after the cancel$"],
    "traffic_light": [
        *("^red$", "^green$", "^car 1 .* drove at green$", "^car 2 .* drove at green$", "^car 3 drove on$"),
        *("^red$", "^green$", "^car 4 .* drove at green$", "^car 5 .* drove at green$", "^car 6 drove on$"),
    ],
    "two_threads": ["task t1 is done", "task t2 is done", "both took [23]\\.\\d s"],
    "urgent_first": ["^connected at attempt 3$", "^now, soon, soon too, whenever$"],
    "wait_for_any": ["so far: \\[\\]", "the queue has an item", "the event is set", "the thread is over"],
    "with_asyncio": ["one: 2666646666700000", "next: 0", "next: 170666346666800000", "the loop went on ticking"],
}


def examples(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "treadle", "examples", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    ran = examples(name, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    head, watch, empty, *shown = ran.stdout.splitlines()
    assert head == f"{name}: {EXAMPLES[name].shows}"
    assert watch == f"Watch for: {EXAMPLES[name].watch}"
    assert empty == ""
    place = 0
    text = "\n".join(shown)
    for pattern in SHOWS[name]:
        found = re.compile(pattern, re.MULTILINE).search(text, place)
        assert found, f"{pattern!r} is not in the rest of:\n{text}"
        place = found.end()
    assert "Traceback" not in ran.stderr or name in FAILS
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_list_has_them_all_with_a_line_each(tmp_path: Path) -> None:
    ran = examples(cwd=tmp_path)
    assert ran.returncode == 0
    for example in EXAMPLES.values():
        assert re.search(rf"^{example.name} +{re.escape(example.shows)}$", ran.stdout, re.MULTILINE)
    assert not re.search(r"^(demo|jobs|slow_server) ", ran.stdout, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda example: example.name)
def test_an_example_is_short_and_says_what_to_watch_for_in_a_line(example: object) -> None:
    assert len(example.text.splitlines()) < 40  # type: ignore[attr-defined]
    assert example.watch.endswith(".")  # type: ignore[attr-defined]


def test_a_new_example_is_found_without_any_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brand_new.py").write_text('"""Something new.\n\nWatch for: it.\n"""\n')
    (tmp_path / "helper.py").write_text('"""Not an example."""\n')
    monkeypatch.setattr(treadle.examples, "__path__", [str(tmp_path)])
    assert list(find_examples()) == ["brand_new"]


def test_show_prints_the_program(tmp_path: Path) -> None:
    assert examples("closures", "--show", cwd=tmp_path).stdout == EXAMPLES["closures"].text


def test_an_unknown_name_is_one_sentence(tmp_path: Path) -> None:
    ran = examples("closure", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr == "treadle examples: there is no example 'closure'; did you mean 'closures'?\n"


# -- the functions of the demo ----------------------------------------------------------------------------------------


def test_measure_counts_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        "class A:\n"
        "    def f(self, x):\n"
        "        if x: return lambda: 1\n"
        "        elif x + 1: return 2\n"
        "        else:\n"
        "            for y in x:\n"
        "                pass\n"
        "    async def g(self):\n"
        "        try: pass\n"
        "        except E: pass\n"
    )
    assert measure(str(path)) == {"bytes": path.stat().st_size, "lines": 10, "functions": 2, "deepest": 4}
    path.write_text("x = 1\n")
    assert measure(str(path)) == {"bytes": 6, "lines": 1, "functions": 0, "deepest": 0}
    path.write_text("x = = 1\n")
    with pytest.raises(SyntaxError):
        measure(str(path))


def test_fetch_gets_a_page_of_the_slow_server() -> None:
    with slow_server() as address:
        page = fetch(f"{address}/2")
    assert page["status"] == 200
    assert page["bytes"] == 21
    assert page["seconds"] >= 0.3


@pytest.mark.heavy
@pytest.mark.timeout(120)
def test_the_demo_shows_both_decisions_and_its_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "treadle.examples.demo"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"measured\.jsonl.*; processes: \d+ % .* computing", ran.stderr)
    assert re.search(r"results in pages\.jsonl; threads: \d+ % .* waiting", ran.stderr)
    assert "every page once" in ran.stdout
    assert re.search(r"largest file, bytes +│ [\d,]+ +│ \S+\.py", ran.stdout)
    assert list(tmp_path.iterdir()) == []
