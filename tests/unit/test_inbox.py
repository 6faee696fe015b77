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
from treadle.pool.task import PART, RETURNED, RETURNED_PACKED, Call, Task
from treadle.pool.task import RAISED as TASK_RAISED

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


def test_a_closed_one_gives_back_what_is_unread_and_takes_no_more() -> None:
    inbox = Inbox(1, None, False)
    slots = fill(inbox, 3)
    end(slots[1])
    assert inbox.close() == [slot.task for slot in slots]
    assert inbox.take() is slots[1]
    assert inbox.close() == [slots[0].task, slots[2].task]
    assert inbox.add([Slot(inbox, 3)], 0) is False and inbox.unread == 2


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


def runs(inbox: Inbox, items: Any, size: int, fn: Any = print) -> list[Slot]:
    """Items of one iterable, in runs of at most so many."""
    tasks, slots, count, total, why, rest = _core.feed(
        inbox, Slot, _core.Singles(items), fn, "function", None, True, 0, 1 << 20, FAR, size, None
    )
    assert (why, rest) == (EXHAUSTED, None) and [task.sink for task in tasks] == slots
    assert count == sum(task.count for task in tasks)
    inbox.add(slots, total)
    return list(slots)


def test_one_iterable_gives_tuples_to_who_asks_and_items_to_runs() -> None:
    assert list(_core.Singles("ab")) == [("a",), ("b",)]
    with pytest.raises(TypeError):
        _core.Singles(1)  # type: ignore[arg-type]
    (slot,) = runs(Inbox(1, None, True), range(3), 10)
    assert slot.task.run and list(slot.task.call.args) == [0, 1, 2]  # type: ignore[comparison-overlap]


def test_items_that_can_change_are_kept_and_others_are_bytes() -> None:
    lists = [[1], [2]]
    slots = runs(Inbox(1, None, True), [1, 2.5, "three", b"four", None, True, *lists, 9], 100)
    assert [slot.task.count for slot in slots] == [6, 3]
    first, second = (slot.task.call.args for slot in slots)
    assert not isinstance(first, list) and list(first) == [1, 2.5, "three", b"four", None, True]
    assert isinstance(second, list) and second[0] is lists[0] and second[1] is lists[1]
    with pytest.raises(IndexError):
        first[6]


@pytest.mark.parametrize("ordered", [True, False])
def test_packed_values_are_read_as_others_are(ordered: bool) -> None:
    inbox = Inbox(1, 1000, ordered)
    one, two = runs(inbox, range(20), 10)
    # A run's values can travel as its items do.
    values = two.task.call.args
    two.deliver(two.task, PART, (10, values, 50))
    assert inbox.has_next() is not ordered
    one.deliver(one.task, PART, (0, [0, 1, [2]], 0))
    rest = one.task.split(3)
    one.deliver(rest, PART, (3, rest.call.args, 70))
    assert inbox.pace > 0
    found = [inbox.next_value(NOTHING) for _ in range(5)]
    taken = inbox.take()
    assert taken is not None
    assert (taken.index, taken.data, taken.task.item) == ((5, 5, 5) if ordered else (15, 15, 15))
    found += [taken.data, *(inbox.next_value(NOTHING) for _ in range(14))]
    expected = [0, 1, [2], *range(3, 20)]
    assert found == (expected if ordered else expected[10:] + expected[:10])
    assert inbox.unread == 0 and inbox.take() is None


def test_packed_values_that_nobody_reads_are_freed() -> None:
    inbox = Inbox(1, None, True)
    (slot,) = runs(inbox, range(10), 10)
    slot.deliver(slot.task, PART, (0, slot.task.call.args, 1))
    assert inbox.next_value(NOTHING) == 0  # in the middle of it
    ref = weakref.ref(inbox) if hasattr(inbox, "__weakref__") else None
    del inbox, slot
    gc.collect()
    assert ref is None or ref() is None
