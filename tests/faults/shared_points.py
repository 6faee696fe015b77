"""Kill a process at one named point of the core, and see that those who live on can go on.

    python shared_points.py POINT [N]

Needs a build with TREADLE_POINTS=1.  A victim does over and over what leads through the point, until it is killed
there, for the N-th time that it comes by.  Then everything that it touched is tried out.  Exits with 0 if all is well.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings

from treadle._native import _core
from treadle.errors import SharedObjectGone
from treadle.sync.barrier import BrokenBarrierError
from treadle.sync.shared import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

SOON = 0.5  # seconds: a recovery takes at most 0.2; the rest is for a busy machine
fork = multiprocessing.get_context("fork")


class World:
    def __init__(self) -> None:
        self.lock, self.rlock = Lock(), RLock()
        self.semaphore, self.bounded, self.signal = Semaphore(2), BoundedSemaphore(2), Semaphore(0)
        self.condition, self.event, self.barrier = Condition(), Event(), Barrier(3)
        self.ready = Semaphore(0)
        self.over = False

    # -- what the victim does; each is called again until the point has killed it

    def arena(self) -> None:
        mine = [Lock(), Semaphore(3), Barrier(40)]
        for one in mine:
            pickle.loads(pickle.dumps(one))
        sent = pickle.dumps(mine[0])
        del one, mine  # the pickle alone keeps the lock
        try:
            pickle.loads(sent)
        except SharedObjectGone as error:
            raise AssertionError("a pickle must keep it alive") from error

    def bury(self) -> None:
        _core.arena_sweep(False)
        time.sleep(0.01)

    def forks(self) -> None:
        pid = os.fork()
        if pid == 0:
            with self.lock:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):  # the point lies in the child
            os.kill(os.getpid(), signal.SIGKILL)

    def locks(self) -> None:
        for lock in (self.lock, self.rlock):
            with lock:
                self.ready.release()
                give_up = time.monotonic() + 0.02
                while lock._waiters() == 0 and time.monotonic() < give_up:
                    pass

    def permits(self) -> None:
        for semaphore in (self.semaphore, self.bounded):
            with semaphore, semaphore:
                self.ready.release()
                give_up = time.monotonic() + 0.02
                while time.monotonic() < give_up:
                    pass

    def waits(self) -> None:
        with self.condition:
            self.ready.release()
            self.condition.wait(0.1)
            self.condition.notify_all()

    def sets(self) -> None:
        self.ready.release()
        self.event.set()
        self.event.clear()

    def meets(self) -> None:
        self.ready.release()
        try:
            self.barrier.wait()
        except BrokenBarrierError:
            self.barrier.reset()

    # -- what others do meanwhile, in threads of this process: so that somebody waits

    def others_lock(self) -> None:
        for lock in (self.lock, self.rlock):
            if lock.acquire(timeout=0.05):
                lock.release()

    def others_permits(self) -> None:
        for semaphore in (self.semaphore, self.bounded):
            if semaphore.acquire(timeout=0.05):
                semaphore.release()

    def others_notify(self) -> None:
        with self.condition:
            self.condition.notify()

    def others_wait(self) -> None:
        self.event.wait(0.05)

    def others_meet(self) -> None:
        try:
            self.barrier.wait(1)
        except BrokenBarrierError:
            self.barrier.reset()

    # -- what must hold afterwards

    def check(self) -> None:
        for lock in (self.lock, self.rlock):
            began = time.monotonic()
            assert lock.acquire(timeout=5), f"{lock} is stuck"
            assert time.monotonic() - began < SOON, f"{lock} took {time.monotonic() - began} s"
            lock.release()
        for semaphore in (self.semaphore, self.bounded):
            for _ in range(2):
                assert semaphore.acquire(timeout=SOON), f"a permit of {semaphore} is lost"
            assert not semaphore.acquire(False), "a permit too many"
            semaphore.release()
            semaphore.release()
            assert semaphore.get_value() == 2
        assert not self.signal.acquire(False)
        self.check_condition()
        self.check_event()
        self.check_barrier()

    def check_condition(self) -> None:
        woken: list[bool] = []

        def wait() -> None:
            with self.condition:
                self.ready.release()
                woken.append(self.condition.wait(5))

        self.drain()
        thread = threading.Thread(target=wait)
        thread.start()
        assert self.ready.acquire(timeout=5)
        with self.condition:
            self.condition.notify()  # the dead must not take it
        thread.join(10)
        assert woken == [True]

    def check_event(self) -> None:
        self.event.clear()
        thread = threading.Thread(target=self.event.wait)
        thread.start()
        self.event.set()
        thread.join(10)
        assert not thread.is_alive()

    def check_barrier(self) -> None:
        self.barrier.reset()
        got: list[int] = []
        threads = [threading.Thread(target=lambda: got.append(self.barrier.wait(5))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(got) == [0, 1, 2], got

    def drain(self) -> None:
        while self.ready.acquire(False):
            pass


WHAT = {  # by the beginning of the point's name; the longest one counts
    "arena.": ("arena", []),
    "arena.bury": ("bury", []),
    "arena.fork": ("forks", []),
    "lock.": ("locks", ["others_lock", "others_lock"]),
    "permits.": ("permits", ["others_permits", "others_permits", "others_permits"]),
    "permits.wake": ("permits", ["others_permits"]),  # the point lies behind the wake-up of the last one who waits
    "condition.": ("waits", ["others_notify", "others_notify"]),
    "event.": ("sets", ["others_wait", "others_wait"]),
    "barrier.": ("meets", ["others_meet", "others_meet"]),
}


def die_with_everything(world: World) -> None:
    """What is done for the dead is done for this one."""
    world.lock.acquire()
    world.rlock.acquire()
    world.semaphore.acquire()
    world.bounded.acquire()
    world.mine = [Lock(), Event()]
    os.kill(os.getpid(), signal.SIGKILL)


def victim(world: World, point: str, act: str) -> None:
    warnings.simplefilter("ignore")
    if ".recover" in point or "bury" in point:
        pid = os.fork()
        if pid == 0:
            die_with_everything(world)
        os.waitpid(pid, 0)
    os.environ["TREADLE_KILL_AT"] = point
    until = time.monotonic() + 20
    while time.monotonic() < until:
        getattr(world, act)()


def run(point: str) -> None:
    world = World()
    name = point.partition(":")[0]
    act, others = WHAT[max((key for key in WHAT if name.startswith(key)), key=len)]
    process = fork.Process(target=victim, args=(world, point, act))
    process.start()

    def loop(step: str) -> None:
        while not world.over:
            getattr(world, step)()

    threads = [threading.Thread(target=loop, args=(step,)) for step in others]
    if "recover" not in name:
        for thread in threads:
            thread.start()
    process.join(30)
    began = time.monotonic()
    world.over = True
    for thread in threads:
        if thread.ident is not None:
            thread.join(10)
            assert not thread.is_alive(), "somebody hangs"
    assert time.monotonic() - began < 3, "somebody was stuck for long"
    assert process.exitcode == -signal.SIGKILL, f"exit code {process.exitcode}: it did not come by {point}"
    world.check()
    process.close()


def main() -> None:
    warnings.simplefilter("ignore")
    run(":".join(sys.argv[1:]))
    # A child that was killed before it had begun to run is believed to come for ten seconds.
    until = time.monotonic() + (15 if "fork.child" in sys.argv[1] else 0)
    while True:
        _core.arena_sweep(True)
        slots, entries = _core.arena_used()
        if (slots, entries) == (0, 1) or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert slots == 0, f"{slots} slots are left"
    assert entries == 1, f"{entries} processes are left"


if __name__ == "__main__":
    main()
