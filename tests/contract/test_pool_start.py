"""What a pool loads before its first task runs: it is most of the time that a program's first result takes."""

from __future__ import annotations

import subprocess
import sys

# Each of these takes long to import, or brings much with it.
HEAVY = {
    "asyncio", "cloudpickle", "ctypes", "dataclasses", "inspect", "json", "multiprocessing", "pathlib", "platform",
    "socket", "subprocess", "uuid",
}  # fmt: skip


def run(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def loaded(code: str) -> set[str]:
    """What that code has loaded beyond what this Python, its environment's hooks and the errors of `concurrent.futures`
    load: these bring `logging`, and that, from 3.14 on, `dataclasses`."""
    show = "\nimport sys; print(*sys.modules)"
    return run(code + show) - run("import concurrent.futures" + show)


def test_a_program_loads_little_before_its_first_process() -> None:
    assert not loaded("import treadle; treadle.Pool, treadle.map") & HEAVY
    assert "treadle.pool.driver" not in loaded("import treadle; treadle.Pool")


def test_the_pool_of_a_plain_function_needs_no_cloudpickle() -> None:
    code = "import treadle\nwith treadle.Pool(1, 'processes') as pool: assert pool.submit(abs, -1).result() == 1"
    assert not loaded(code) & (HEAVY - {"subprocess"})  # where Python has flags, `subprocess` writes them


def test_a_worker_can_be_born_before_much_is_loaded() -> None:
    assert not loaded("import treadle.pool.launch.nursery, treadle.pool.worker") & HEAVY


def test_what_the_nursery_loads_beforehand_can_be_loaded() -> None:
    from treadle.pool.launch.nursery import PRELOAD

    for name in PRELOAD:
        __import__(name)


def test_a_program_without_standard_streams(tmp_path: object) -> None:
    """A nursery opens what is missing: a lane under one of these numbers would be closed in its worker."""
    code = (
        "import os\nfor fd in (0, 1, 2): os.close(fd)\n"
        "import treadle\nwith treadle.Pool(2, 'processes') as pool: done = sum(pool.map(abs, range(100)))\n"
        "os._exit(done == 4950)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 1
