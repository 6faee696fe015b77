"""Which threads can never go on: pure, over a picture.

A thread is *able* if it runs, sleeps by itself, or waits with a time-out.  One that waits without is able too if
somebody able can end its wait: the owner of what it waits for or, if there is none, whoever can reach the object (for
one in private memory, the threads of its process; else those of all processes).  What is left when nothing more can be
added, nobody will ever wake: it is stuck.

A process that handles signals is able, too: a handler may do whatever its main thread may.

What this can't see: threads that never used treadle.  Those count as able when they run, and when they sleep in
anything but a lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .picture import Picture, Thread

__all__ = ["asleep", "cycles", "stuck"]


def stuck(picture: Picture, signals: bool = True) -> list[Thread]:
    """The threads that wait, and whose wait nobody is left to end; longest first.  `signals`: one may come."""
    handling = {each.pid for each in picture.processes if signals and each.kernel.handles and each.role != "service"}
    threads = picture.threads
    able = {id(thread) for thread in threads if _by_itself(thread)}
    waiting = [thread for thread in threads if _untimed(thread) and id(thread) not in able]
    by_token = {thread.token: thread for thread in threads if thread.token}
    outside = bool(picture.strangers)
    changed = True
    while changed:
        changed = False
        for thread in waiting:
            if id(thread) not in able and (
                _can_end(thread, threads, by_token, able, outside, handling) or _pool_works(thread, picture, able)
            ):
                able.add(id(thread))
                changed = True
    left = [thread for thread in waiting if id(thread) not in able]
    return sorted(left, key=lambda thread: -(thread.wait.seconds if thread.wait else 0))


def asleep(picture: Picture, left: Iterable[Thread]) -> bool:
    """Are those that are `left` stuck all that there is?"""
    ids = {id(thread) for thread in left}
    return all(id(each) in ids or not _by_itself(each) for each in picture.threads) and not picture.strangers


def _untimed(thread: Thread) -> bool:
    return thread.wait is not None and not thread.wait.timed


def _by_itself(thread: Thread) -> bool:
    """Does it go on without anybody's help?"""
    if thread.wait is not None:
        return thread.wait.timed and thread.role != "service"
    if thread.role == "service":
        return False
    if thread.role == "worker":
        return thread.task is not None
    if thread.role == "unknown":
        kernel = thread.kernel
        return kernel is not None and (kernel.state == "running" or not kernel.sleeps_in.startswith("futex"))
    return True


def _can_end(
    thread: Thread,
    threads: Sequence[Thread],
    by_token: dict[int, Thread],
    able: set[int],
    outside: bool,
    handling: set[int],
) -> bool:
    wait = thread.wait
    assert wait is not None
    if wait.owner:
        owner = by_token.get(wait.owner)
        if owner is not None and id(owner) in able:
            return True
        if owner is None and not wait.private and wait.kind != "join":
            return True  # its owner is dead, and it takes over with its next look
        if not wait.bare:
            return False
    elif wait.kind == "join" and outside:  # a child that is a stranger
        return True
    if thread.pid in handling or (handling and not wait.private):
        return True
    return any(
        id(other) in able
        for other in threads
        if other is not thread and (not wait.private or other.pid == thread.pid) and other.token != wait.owner
    )


def _pool_works(thread: Thread, picture: Picture, able: set[int]) -> bool:
    """Does it wait, for nobody in particular, in a process with a pool that is going to do something?  The pool's own
    thread then tells it."""
    wait = thread.wait
    if wait is None or wait.owner or not wait.private:
        return False
    for pool in picture.pools:
        if pool.pid != thread.pid:
            continue
        crew = [each for each in picture.threads if each.pool == pool.token]
        if pool.retrying or any(id(each) in able for each in crew) or (pool.queued and len(crew) < pool.limit):
            return True
    return False


def cycles(threads: Iterable[Thread]) -> list[list[Thread]]:
    """The circles of threads each of which waits, without a time-out, for what the next one has; each circle once."""
    by_token = {thread.token: thread for thread in threads if thread.token}
    found: list[list[Thread]] = []
    done: set[int] = set()
    for start in by_token.values():
        path: list[Thread] = []
        here: Thread | None = start
        while here is not None and here.token not in done:
            done.add(here.token)
            path.append(here)
            here = by_token.get(here.wait.owner) if here.wait is not None and not here.wait.timed else None
        if here is not None and here in path:
            found.append(path[path.index(here) :])
    return found
