"""The reactor: in which order it calls what it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable

from treadle.pool.reactor import Reactor


def in_it(reactor: Reactor, what: Callable[[], None]) -> None:
    """Have it called in the reactor's thread, and wait until that has gone on after it."""
    done = threading.Event()
    reactor.call_soon(what)
    reactor.call_soon(done.set)
    assert done.wait(20)


def test_what_wakes_somebody_is_called_when_the_rest_is_done(reactor: Reactor) -> None:
    seen: list[str] = []
    woken = threading.Event()

    def handle() -> None:
        assert reactor.in_thread
        reactor.call_last(lambda: (seen.append("last"), woken.set()))  # type: ignore[arg-type,return-value]
        seen.append("first")

    in_it(reactor, handle)
    assert woken.wait(20), "it does not wait for the next event"
    assert seen == ["first", "last"]


def test_a_timer_may_wake_somebody(reactor: Reactor) -> None:
    woken = threading.Event()
    reactor.call_later(0.0, lambda: reactor.call_last(woken.set))
    assert woken.wait(20)


def test_elsewhere_it_is_called_at_once(reactor: Reactor) -> None:
    seen: list[threading.Thread] = []
    reactor.call_last(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]
