"""A program that interrupts itself before the n-th line of treadle's code in its main thread, for all n.

After each interrupt nothing may hang, no pool may stay alive once nobody holds it, and no worker may be left.
"""

from __future__ import annotations

import faulthandler
import gc
import linecache
import os
import re
import sys
import time
from types import FrameType
from typing import Any

import treadle
from treadle.pool import registry, warm
from treadle.pool.launch.client import program
from treadle.testing.leaks import descendants

HOME = os.path.dirname(treadle.__file__)
# A trace function is also called before `__exit__`, where the interpreter would handle no signal, and what it raises
# there is not handled by the `with` itself: no lock would be given back.  The same holds for a jump back inside of a
# comprehension.
WITH = re.compile(r"\s*(async )?with\b")
engine, scenario, first, step = os.environ["TREADLE_EVERY"].split()
count = target = 0
last: dict[int, int] = {}  # the line that each frame was at
where: str | None = None
inside: dict[int, set[int]] = {}  # the lines of the `with` blocks that are open, of each frame


def leaves(frame: FrameType) -> bool:
    """Whether this is the end of a `with` block, whose line is then visited again."""
    if not WITH.match(linecache.getline(frame.f_code.co_filename, frame.f_lineno)):
        return False
    of_frame = inside.setdefault(id(frame), set())
    of_frame ^= {frame.f_lineno}
    return frame.f_lineno not in of_frame


def local(frame: FrameType, event: str, arg: Any) -> Any:
    global count, where
    if event != "line":
        return local
    again = last.get(id(frame)) == frame.f_lineno
    last[id(frame)] = frame.f_lineno
    if not again and not leaves(frame):
        count += 1
        if count == target:
            where = f"{os.path.relpath(frame.f_code.co_filename, HOME)}:{frame.f_lineno} in {frame.f_code.co_name}"
            print(f"try {target} {where}", file=sys.stderr)
            sys.settrace(None)
            raise KeyboardInterrupt(where)
    return local


def tracer(frame: FrameType, event: str, arg: Any) -> Any:
    if frame.f_lineno == frame.f_code.co_firstlineno:  # a new one, maybe where another was; no generator that goes on
        inside.pop(id(frame), None)
    return local if frame.f_code.co_filename.startswith(HOME) and frame.f_code.co_name != "__del__" else None


def square(x: int) -> int:
    return x * x


def submit() -> None:
    with treadle.Pool(2, engine=engine) as pool:  # type: ignore[arg-type]
        for future in [pool.submit(square, i) for i in range(3)]:
            future.result()


def map() -> None:
    for _ in treadle.map(square, range(6), workers=2, engine=engine):  # type: ignore[arg-type]
        pass


def cancel() -> None:
    with treadle.Pool(1, engine=engine) as pool:  # type: ignore[arg-type]
        first = pool.submit(time.sleep, 0.01)
        pool.submit(square, 2).cancel()
        results = pool.map(square, range(3))
        next(results)
        results.close()
        pool.stats()
        first.exception()
        pool.shutdown(cancel_futures=True)


program.connect().close()
globals()[scenario]()  # imports are not part of it
known = {pid for pid, _ in descendants(os.getpid())}
bad = 0
for target in range(int(first), 100_000, int(step)):
    count, where = 0, None
    last.clear()
    inside.clear()
    faulthandler.dump_traceback_later(10, exit=True)
    begin = time.monotonic()
    sys.settrace(tracer)
    try:
        globals()[scenario]()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    took = time.monotonic() - begin
    warm.close()  # what a map has kept for the next one is not left behind
    if took > 1:
        print("SLOW", target, where, f"{took:.2f} s", flush=True)
    until = time.monotonic() + 4
    while True:
        gc.collect()
        pools = sum(driver.reactor.running for driver, _ in list(registry._live.values()))
        workers = [each for each in descendants(os.getpid()) if each[0] not in known and each[0] != program.pid]
        if not pools and not workers:
            break
        if time.monotonic() > until:
            print("LEFT", target, where, pools, "pools,", workers, flush=True)
            bad += 1
            known |= {each[0] for each in workers}
            for driver, _ in list(registry._live.values()):
                driver.terminate()
            registry._live.clear()
            break
        time.sleep(0.002)
    if where is None:
        print("complete at", target, flush=True)
        break
faulthandler.cancel_dump_traceback_later()
sys.exit(1 if bad else 0)
