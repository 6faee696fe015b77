"""Each task sees the context of its submit, wherever it runs, and nothing of the task before it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import context_work as work
import pytest
from engine_work import engines

import treadle
from treadle import Pool

ENGINES = engines("threads", "processes", "inline", "interpreters", "dask", "ray", by_hand=("ray",))


@pytest.fixture(params=ENGINES)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(1, engine=request.param) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _own_context() -> Iterator[None]:
    """What a test sets is gone after it."""
    tokens = [(variable, variable.set("before")) for variable in (work.request, work.plain, work.holder.inner)]
    for variable, token in tokens:
        variable.reset(token)
    yield
    for variable in (work.request, work.plain, work.holder.inner):
        if variable in contextvars.copy_context():
            variable.set(None)
    assert all(contextvars.copy_context().get(v) is None for v in (work.request, work.plain, work.holder.inner))


def in_own(fn: Any) -> Any:
    """Run in an empty context."""
    return contextvars.Context().run(fn)


def test_submit(pool: Pool) -> None:
    def body() -> None:
        assert pool.submit(work.seen).result(20) == ("default", None)
        work.request.set("A")
        first = pool.submit(work.seen)
        work.request.set("B")
        work.plain.set(("x", 1))
        second = pool.submit(work.seen)
        assert first.result(20) == ("A", None)
        assert second.result(20) == ("B", ("x", 1))

    in_own(body)
    assert in_own(lambda: pool.submit(work.seen).result(20)) == ("default", None), "nothing stays behind"


def test_what_a_task_sets_goes_with_it(pool: Pool) -> None:
    def body() -> None:
        assert pool.submit(work.put, "dirty").result(20) == "default"
        assert pool.submit(work.put, "dirty").result(20) == "default"
        assert isinstance(pool.submit(work.fail_in_context).exception(20), ValueError)
        assert pool.submit(work.seen).result(20) == ("default", None)
        work.plain.set(1)
        assert pool.submit(work.put, "dirty").result(20) == "default"
        assert pool.submit(work.seen).result(20) == ("default", 1)

    in_own(body)


def test_a_value_that_was_changed(pool: Pool) -> None:
    """The same list object, with more in it: each task sees it as it was at its submit (a thread: as it is)."""

    def body() -> None:
        value = ["first"]
        work.request.set(value)
        assert pool.submit(work.seen).result(20) == (["first"], None)
        value.append("second")
        assert pool.submit(work.seen).result(20) == (["first", "second"], None)
        pool.submit(work.add_and_see, "third").result(20)
        if pool.decision.engine == "processes":  # type: ignore[union-attr]
            assert pool.submit(work.seen).result(20) == (["first", "second"], None), "a task has its own copy"

    in_own(body)


def test_map_has_the_context_of_the_call(pool: Pool) -> None:
    def body() -> None:
        work.request.set("call")
        results = pool.map(work.seen, range(50))
        work.request.set("later")
        assert list(results) == [("call", None)] * 50

    in_own(body)


def test_map_function(pool: Pool) -> None:
    def body() -> None:
        work.request.set("call")
        results = treadle.map(work.seen, range(20), workers=2, engine=pool.decision.engine)  # type: ignore[union-attr]
        work.request.set("later")
        assert list(results) == [("call", None)] * 20

    in_own(body)


def test_asyncio(pool: Pool) -> None:
    async def one(name: str) -> tuple[Any, ...]:
        work.request.set(name)
        await asyncio.sleep(0)
        seen = await pool.asubmit(work.seen)
        mapped = pool.amap(work.seen, range(2))
        work.request.set("later")
        return name, seen, [each async for each in mapped]

    async def main() -> None:
        for name, seen, mapped in await asyncio.gather(*(one(str(i)) for i in range(5))):
            assert seen == (name, None)
            assert mapped == [(name, None)] * 2

    in_own(lambda: asyncio.run(main()))


def test_many_threads_submit(pool: Pool) -> None:
    wrong: list[Any] = []

    def submit(name: str) -> None:
        work.request.set(name)
        futures = [pool.submit(work.seen) for _ in range(50)]
        wrong.extend(f.result(20) for f in futures if f.result(20) != (name, None))

    threads = [threading.Thread(target=submit, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_retries_see_it_again(pool: Pool) -> None:
    def body() -> None:
        work.request.set("kept")
        error = pool.options(retries=2).submit(work.fail_in_context).exception(20)
        assert isinstance(error, ValueError)
        assert pool.submit(work.seen).result(20) == ("kept", None)

    in_own(body)


def test_its_own_method_as_the_function(pool: Pool) -> None:
    token = work.request.set("as a function")
    try:
        assert pool.submit(work.request.get).result(10) == "as a function"
    finally:
        work.request.reset(token)


def test_a_variable_that_is_no_global(pool: Pool) -> None:
    def body() -> None:
        work.holder.inner.set(5)
        assert pool.submit(work.seen_inner).result(20) == 5
        local: contextvars.ContextVar[int] = contextvars.ContextVar("local", default=7)
        bare: contextvars.ContextVar[int] = contextvars.ContextVar("bare")
        assert pool.submit(lambda: (local.get(), bare.get(None))).result(20) == (7, None)
        local.set(8)
        bare.set(9)
        assert pool.submit(lambda: (local.get(), bare.get(None))).result(20) == (8, 9)

    in_own(body)


def test_values_that_stay_at_home(caplog: pytest.LogCaptureFixture) -> None:
    def body() -> None:
        work.request.set(threading.Lock())
        work.plain.set("travels")
        with Pool(1, engine="processes") as pool, caplog.at_level("DEBUG", "treadle"):
            for _ in range(3):
                assert pool.submit(work.seen).result(20) == ("default", "travels")

    in_own(body)
    told = [r.getMessage() for r in caplog.records if "stays out" in r.getMessage()]
    assert len(told) == 1 and "another_name" in told[0] and "lock" in told[0]


def test_it_travels_once() -> None:
    """The same context again and again is sent once a worker; so is one whose list is still the same."""
    from treadle.pool.contexts import VariableTable

    def body() -> None:
        table = VariableTable()
        work.request.set("A")
        first = table.encode(contextvars.copy_context())
        assert first is not None and table.encode(contextvars.copy_context()) is first
        value = [1]
        work.request.set(value)
        second = table.encode(contextvars.copy_context())
        assert second is not None and second is not first
        assert table.encode(contextvars.copy_context()) is second
        value.append(2)
        assert table.encode(contextvars.copy_context()) is not second

    in_own(body)


def test_many_contexts_through_one_worker() -> None:
    """More than a worker keeps."""

    def body() -> None:
        with Pool(1, engine="processes") as pool:
            futures = []
            for i in range(700):
                work.request.set(i % 350)
                futures.append(pool.submit(work.seen))
            assert [f.result(20) for f in futures] == [(i % 350, None) for i in range(700)]

    in_own(body)


MAIN = """
import contextvars, treadle
user = contextvars.ContextVar("user", default="nobody")
other = contextvars.ContextVar("other")
def who(*ignored):
    return user.get(), other.get(None)
for method in ("forkserver", "spawn", "fork"):
    with treadle.Pool(2, engine="processes", start_method=method) as pool:
        def body():
            assert pool.submit(who).result(20) == ("nobody", None)
            user.set("ann")
            assert pool.submit(who).result(20) == ("ann", None)
            other.set(3)
            assert list(pool.map(who, range(5))) == [("ann", 3)] * 5
        contextvars.Context().run(body)
print("fine")
"""


def test_variables_of_the_main_module(tmp_path: Any) -> None:
    import subprocess
    import sys

    path = tmp_path / "program.py"
    path.write_text(MAIN)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")
