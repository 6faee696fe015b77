"""Where a map's results arrive: order, the window, waking the reader, and feeding it, without any pool."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from treadle._native import _core
from treadle.pool.feeder import EXHAUSTED, FED, NEEDS_PICKLE, RAISED, SLOW
from treadle.pool.inbox import NOTHING, Inbox, Slot
from treadle.pool.payloads import dumps
from treadle.pool.task import RAISED as TASK_RAISED
from treadle.pool.task import RETURNED, RETURNED_PACKED, Call, Task

FAR = 1 << 62  # nanoseconds: never


def fill(inbox: Inbox, count: int, start: int = 0) -> list[Slot]:
    slots = []
    for i in range(start, start + count):
        slot = Slot(inbox, i)
        slot.task = Task(Call(print, (i,), None), slot, i)
        slots.append(slot)
    inbox.add(slots, 0)
    return slots


def end(slot: Slot, value: Any = None, kind: int = RETURNED) -> None:
    slot.deliver(slot.task, kind, value)


def test_with_order_results_wait_for_those_before_them() -> None:
    inbox = Inbox(2, None, True)
    a, b, c = fill(inbox, 3)
    end(b, "b")
    assert not inbox.has_next() and inbox.take() is None and inbox.next_value(NOTHING) is NOTHING
    end(a, "a")
    assert inbox.next_value(NOTHING) == "a"
    assert inbox.take() is b and b.data == "b" and b.done
    assert inbox.take() is None and inbox.unread == 1
    end(c, "c")
    assert inbox.next_value(NOTHING) == "c"
    assert inbox.unread == 0 and inbox.returned == 2


def test_without_order_results_come_as_they_end() -> None:
    inbox = Inbox(2, None, False)
    slots = fill(inbox, 100)
    for slot in reversed(slots):
        end(slot, slot.index)
    assert [inbox.next_value(NOTHING) for _ in range(100)] == list(range(99, -1, -1))
    assert inbox.unread == 0


@pytest.mark.parametrize(
    "kind, data", [(TASK_RAISED, ValueError()), (RETURNED_PACKED, pickle.dumps(1)), (RETURNED_PACKED, b"")]
)
def test_what_is_no_plain_value_is_left_for_take(kind: int, data: Any) -> None:
    inbox = Inbox(1, None, True)
    (slot,) = fill(inbox, 1)
    end(slot, data, kind)
    assert inbox.next_value(NOTHING) is NOTHING
    assert inbox.take() is slot and slot.kind == kind and slot.data is data


def test_packed_values_are_unpacked_and_task_and_slot_let_go_of_each_other() -> None:
    inbox = Inbox(1, None, True)
    slots = fill(inbox, 1)
    end(slots[0], dumps([1, "two", None]), RETURNED_PACKED)
    task = slots[0].task
    assert inbox.next_value(NOTHING) == [1, "two", None]
    assert task.sink is None


def test_the_reader_is_woken_once_and_not_for_what_it_cannot_read_yet() -> None:
    inbox = Inbox(1, None, True)
    a, b = fill(inbox, 2)
    woken: list[int] = []
    assert inbox.wake_reader(lambda: woken.append(1))
    end(b)
    assert not woken
    end(a)
    assert woken == [1]
    assert not inbox.wake_reader(lambda: woken.append(2)), "there is something to read"


def test_the_window_grows_only_when_workers_and_reader_have_run_dry() -> None:
    inbox = Inbox(2, None, True)
    first = inbox.limit
    slots = fill(inbox, inbox.wants())
    assert len(slots) == first and inbox.wants() == 0 and not inbox.starving
    for slot in slots:
        end(slot)
    assert inbox.starving
    assert inbox.wants() == 0 and inbox.limit == first, "the workers have run dry, but the reader is slow"
    while inbox.take() is not None:
        pass
    assert inbox.wants() == 2 * first and inbox.limit == 2 * first


def test_a_buffer_stays_as_it_is() -> None:
    inbox = Inbox(4, 3, True)
    for slot in fill(inbox, inbox.wants()):
        end(slot)
    while inbox.take() is not None:
        pass
    assert inbox.wants() == 3 and inbox.limit == 3


def test_bytes_count_as_well() -> None:
    inbox = Inbox(1, 1000, True)
    slots = fill(inbox, 10)
    for slot in slots:
        end(slot, bytes(4 << 20))
    assert inbox.wants() == 0
    while inbox.take() is not None:
        pass
    assert 0 < inbox.wants() <= 8, "no more than fit, by experience"


def test_open_tasks_are_those_that_are_unread() -> None:
    inbox = Inbox(1, None, False)
    slots = fill(inbox, 3)
    end(slots[1])
    assert inbox.open_tasks() == [slot.task for slot in slots]
    assert inbox.take() is slots[1]
    assert inbox.open_tasks() == [slots[0].task, slots[2].task]


def test_a_dropped_inbox_is_collected_with_its_slots() -> None:
    class Canary:
        pass

    canary = Canary()
    inbox = Inbox(1, None, True)
    slot = Slot(inbox, 0)
    slot.task = Task(Call(print, (canary,), None), slot, 0)
    inbox.add([slot], 0)
    end(slot, inbox)
    gone = weakref.ref(canary)
    del inbox, slot, canary
    gc.collect()
    assert gone() is None


def test_results_from_many_threads_all_arrive() -> None:
    inbox = Inbox(4, None, False)
    slots = fill(inbox, 4000)
    threads = [
        threading.Thread(target=lambda part: [end(slot, slot.index) for slot in part], args=(slots[i::4],))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    found = []
    while len(found) < 4000:
        value = inbox.next_value(NOTHING)
        if value is not NOTHING:
            found.append(value)
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(4000))
    assert inbox.unread == 0


def feed(inbox: Inbox, source: Iterator[Any], most: int, pack: bool = True, until: int = FAR) -> Any:
    return _core.feed(inbox, Slot, source, print, "function", None, pack, 7, most, until, 1, None)


def test_feeding_makes_tasks_in_order() -> None:
    inbox = Inbox(1, None, True)
    tasks, slots, count, size, why, rest = feed(inbox, zip(range(5), strict=False), 3)
    assert (count, why, rest) == (3, FED, None)
    assert [task.call.args for task in tasks] == [(0,), (1,), (2,)]
    assert [task.index for task in tasks] == [slot.index for slot in slots] == [7, 8, 9]
    assert [task.sink for task in tasks] == slots and [slot.task for slot in slots] == tasks
    assert size == sum(len(task.call.payload) for task in tasks) == sum(slot.size for slot in slots)
    assert [task.call.payload for task in tasks] == [dumps((i,)) for i in range(3)]
    assert feed(inbox, zip((), strict=False), 3)[4] == EXHAUSTED
    assert feed(inbox, zip(range(2), strict=False), 3, pack=False)[0][0].call.payload is None


def test_feeding_stops_at_what_needs_pickle_and_hands_it_over() -> None:
    thing = object()
    tasks, _, _, _, why, rest = feed(Inbox(1, None, True), zip([1, thing, 2], strict=False), 9)
    assert why == NEEDS_PICKLE and rest == (thing,) and len(tasks) == 1


def test_feeding_stops_when_time_is_over_and_at_errors() -> None:
    inbox = Inbox(1, None, True)
    assert feed(inbox, zip(range(9), strict=False), 9, until=0)[4] == SLOW

    def broken(error: BaseException) -> Iterator[tuple[int]]:
        yield (1,)
        raise error

    tasks, _, _, _, why, rest = feed(inbox, broken(OSError("disk")), 9)
    assert len(tasks) == 1 and why == RAISED and str(rest) == "disk"
    with pytest.raises(KeyboardInterrupt):
        feed(inbox, broken(KeyboardInterrupt()), 9)
