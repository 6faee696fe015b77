"""Where simple calls are submitted: what is simple, in which order things wait, and who is told."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any

import pytest

from treadle import sync
from treadle._native import _core
from treadle.pool.future import Future
from treadle.pool.state import State
from treadle.pool.task import NEW, Call, Task


def work(x: Any) -> Any:
    return x


class Made:
    """A desk whose brain has no worker, so that everything waits."""

    def __init__(self) -> None:
        self.state = State(2)
        self.roused = 0
        self.desk = _core.Desk(self, self.state, sync.Lock(), self.rouse)
        self.desk.open({id(work): _core.Known(work, "the pickle", None)})

    def rouse(self) -> None:
        self.roused += 1
        self.desk.roused = True

    def submit(self, *args: Any, fn: Any = work, kwargs: dict[str, Any] | None = None) -> Any:
        # In a context of its own: whoever runs the tests may have set something.
        return Context().run(self.desk.submit, fn, args, kwargs)


def test_a_simple_call_waits_with_its_future() -> None:
    made = Made()
    future = made.submit(1)
    assert type(future) is Future and not future.done() and made.desk.any
    (task,) = made.desk.take()
    assert future._task is task and task.sink is future and task.state == NEW and future._driver is made
    assert (task.call.fn, task.call.args, task.call.function) == (work, (1,), "the pickle")
    assert _core.payload_loads(task.call.payload) == (1,)
    assert not made.desk.any and made.desk.take() == []


def test_what_is_not_simple_leaves_no_trace() -> None:
    made = Made()
    variable: ContextVar[int] = ContextVar("variable")

    def in_context() -> Any:
        variable.set(1)
        return made.desk.submit(work, (1,), None)

    assert made.submit(object()) is None
    assert made.submit("x" * 100_000) is None
    assert made.submit(1, fn=len) is None
    assert made.submit(1, fn="no function") is None
    assert made.submit(1, kwargs={"x": 1}) is None
    assert Context().run(in_context) is None
    made.state.closing = True
    assert made.submit(1) is None
    made.state.closing = False
    assert made.submit(1, kwargs={}) is not None
    made.desk.open(None)
    assert made.submit(1) is None
    assert len(made.desk.take()) == 1 and made.roused == 1


def test_everything_waits_in_one_order_and_somebody_is_told_once() -> None:
    made = Made()
    made.submit(1)
    made.desk.leave([Task(Call(work, (2,), None), None), Task(Call(work, (3,), None), None)])
    made.submit(4)
    assert made.roused == 1
    assert [task.call.args for task in made.desk.take()] == [(1,), (2,), (3,), (4,)]
    made.submit(5)
    assert made.roused == 2, "who took the others knows nothing of it"


def test_an_interrupt_while_telling_loses_nothing() -> None:
    made = Made()

    def interrupted() -> None:
        raise KeyboardInterrupt

    desk = _core.Desk(made, made.state, sync.Lock(), interrupted)
    desk.open({id(work): _core.Known(work, "the pickle", None)})
    for _ in range(2):  # the second one tries again
        with pytest.raises(KeyboardInterrupt):
            Context().run(desk.submit, work, (1,), None)
    assert len(desk.take()) == 2


def test_bad_arguments() -> None:
    made = Made()
    with pytest.raises(TypeError):
        made.desk.submit(work, [1], None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.desk.leave((1,))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.desk.open([])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _core.Desk(made, made.state, "no lock", made.rouse)  # type: ignore[arg-type]
