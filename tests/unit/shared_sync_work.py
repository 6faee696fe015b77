"""What the processes of tests/unit/test_shared_sync.py do; run as a script, once for each start method.

python shared_sync_work.py METHOD
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
import time
from typing import Any

from treadle._native import _core
from treadle.errors import DeadlockError
from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

MAKERS: dict[str, Any] = {
    "Lock": Lock,
    "RLock": RLock,
    "Semaphore": Semaphore,
    "BoundedSemaphore": BoundedSemaphore,
    "Condition": Condition,
    "Event": Event,
    "Barrier": lambda: Barrier(2, print),
}


def use(this: Any, connection: Any) -> None:
    """In the child: what the other side did to it is seen here, and the reverse."""
    if isinstance(this, Event):
        assert this.is_set()
        this.clear()
    elif isinstance(this, Barrier):
        connection.send(None)
        this.wait(20)
        return
    elif isinstance(this, Condition):
        with this:
            connection.send(None)
            assert this.wait(20)
        return
    else:
        assert not this.acquire(False)
        if isinstance(this, RLock):
            connection.send(None)
            assert this.acquire(timeout=20)
        this.release()
    connection.send(None)


def inherited(this: Any, connection: Any) -> None:
    use(this, connection)


def received(connection: Any) -> None:
    """It was made after this process had begun, and came through a pipe."""
    use(connection.recv(), connection)


def passes_on(connection: Any, further: Any) -> None:
    """From child to child, as bytes; this one keeps nothing of it, and its maker neither."""
    this = connection.recv()
    further.send(this)
    del this
    connection.send(None)


def grandchild(context: Any, this: Any, connection: Any) -> None:
    process = context.Process(target=inherited, args=(this, connection))
    process.start()
    process.join()
    assert process.exitcode == 0


def here(this: Any, connection: Any) -> None:
    """In the parent: the other half of `use`."""
    if isinstance(this, Event):
        assert connection.poll(20)
        assert not this.is_set()
    elif isinstance(this, Barrier):
        assert connection.poll(20)
        this.wait(20)
    elif isinstance(this, Condition):
        assert connection.poll(20)
        with this:
            this.notify()
        return
    else:
        if isinstance(this, RLock):
            assert connection.poll(20)
            this.release()
        else:
            assert connection.poll(20)
        assert this.acquire(timeout=20)
        this.release()


def prepare(this: Any) -> None:
    if isinstance(this, Event):
        this.set()
    elif not isinstance(this, (Barrier, Condition)):
        this.acquire()


def drain(connection: Any) -> None:
    while connection.poll(0):
        connection.recv()


def every_way(context: Any, kind: str) -> None:
    for way in ("inherited", "received", "grandchild", "passed on"):
        mine, theirs = context.Pipe()
        this = MAKERS[kind]()
        prepare(this)
        processes = []
        if way == "inherited":
            processes.append(context.Process(target=inherited, args=(this, theirs)))
        elif way == "received":
            processes.append(context.Process(target=received, args=(theirs,)))
        elif way == "grandchild":
            processes.append(context.Process(target=grandchild, args=(context, this, theirs)))
        else:
            one, other = context.Pipe()
            processes.append(context.Process(target=passes_on, args=(theirs, one)))
            mine_too, theirs_too = mine, other
            processes.append(context.Process(target=received, args=(theirs_too,)))
        for process in processes:
            process.start()
        if way in ("received", "passed on"):
            mine.send(this)
        if way == "passed on":
            assert mine_too.poll(20)
            mine_too.recv()
            mine = one  # the second child talks to the other end of that pipe
        here(this, mine)
        for process in processes:
            process.join(20)
            assert process.exitcode == 0, (kind, way, process.exitcode)
            process.close()
        for end in (mine, theirs):
            end.close()
        del this


def crossed(first: Lock, second: Lock, meet: Barrier, connection: Any) -> None:
    threading.current_thread().name = f"Crossing {first.name}"
    try:
        with first:
            meet.wait(20)
            with second:
                connection.send("through")
    except DeadlockError as error:
        connection.send(str(error))


def in_a_thread(target: Any, *arguments: Any) -> None:
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    thread.join()


def deadlock(context: Any) -> None:
    """Two processes and two locks, in opposite orders; then two processes and a thread of this one, with three."""
    for count in (2, 3):
        locks = [Lock(name=f"lock {i}") for i in range(count)]
        meet = Barrier(count)
        pipes = [context.Pipe() for _ in range(count)]
        runners: list[Any] = []
        for i in range(count):
            arguments = (locks[i], locks[(i + 1) % count], meet, pipes[i][1])
            if i == 2:
                runners.append(threading.Thread(target=crossed, args=arguments))
            else:
                runners.append(context.Process(target=in_a_thread, args=(crossed, *arguments)))
        began = time.monotonic()
        for runner in runners:
            runner.start()
        answers = []
        for mine, _ in pipes:
            assert mine.poll(30), "they wait for ever"
            answers.append(mine.recv())
        for runner in runners:
            runner.join()
        stories = [answer for answer in answers if answer != "through"]
        assert len(stories) == 1, answers
        for i in range(count):
            assert f"'lock {i}'" in stories[0], stories[0]
        assert "of process" in stories[0], stories[0]
        assert stories[0].count("in crossed") == count, stories[0]
        assert all(stories[0].count(f"thread 'Crossing lock {i}'") == 2 for i in range(count)), stories[0]
        print(f"{count}: {time.monotonic() - began:.3f} s")
        for pipe in pipes:
            for end in pipe:
                end.close()


def main(method: str) -> None:
    context = multiprocessing.get_context(method)
    for kind in MAKERS:
        every_way(context, kind)
    deadlock(context)
    keep = pickle.dumps(Lock())
    assert pickle.loads(keep).acquire(False)
    _core.arena_sweep(True)
    assert _core.arena_used()[0] == 0, _core.arena_used()


if __name__ == "__main__":
    main(sys.argv[1])
