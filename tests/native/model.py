"""A model of the lock and of parking, explored exhaustively: every interleaving of every atomic step.

It follows board/lock.c, board/park.c and python/wait.c of src/treadle/_native step by step: one atomic access of shared
memory a step (the names of the steps are those of the C functions).  What is left out: slices, unless somebody was
killed; and the tickets' counter, which is taken together with the publication.

Checked in every reachable state:
  - at most one live thread is in its critical section;
  - from there, it is possible to come to the end, where every live thread has finished, and the lock is free or held by
    a dead one (so no wake-up was lost, and no hand-over: without slices, only a wake-up gets a sleeper going again).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

IDLE, WAITING, NOTIFIED = "idle", "waiting", "notified"


@dataclass(frozen=True, slots=True)
class Word:
    """The lock's word."""

    owner: int = 0  # 0: nobody; i + 1: thread i
    waited: bool = False
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Thread:
    at: str = "start"
    left: int = 1  # how often it still wants the lock
    record: str = IDLE
    ticket: int = 0
    word: Word = field(default_factory=Word)  # what it last read
    entitled: bool = False
    then: str = ""  # where a look that fails goes
    scan: int = 0  # in notify: the next record to read
    best: int = -1  # ... the oldest waiter so far
    fair: bool = False
    after: str = ""  # ... and where it goes afterwards
    tries: int = 1  # how often it may still give up waiting


@dataclass(frozen=True, slots=True)
class State:
    word: Word
    threads: tuple[Thread, ...]
    dead: frozenset[int]
    kills: int
    ticket: int


FREE = Word()
HELD = ("critical", "release", "release_cas", "let_go")
ENDS = ("done",)


class Model:
    def __init__(self, threads: int, rounds: int, kills: int, gives_up: int, broken: str = "") -> None:
        self.broken = broken
        self.start = State(
            FREE, tuple(Thread(left=rounds, tries=gives_up) for _ in range(threads)), frozenset(), kills, 0
        )

    # -- the explorer

    def check(self) -> int:
        """Explore all; AssertionError if something is wrong.  The number of states."""
        before: dict[State, list[State]] = defaultdict(list)
        seen = {self.start}
        todo = [self.start]
        ends = []
        while todo:
            state = todo.pop()
            inside = [i for i, t in enumerate(state.threads) if t.at in HELD and i not in state.dead]
            assert len(inside) <= 1, f"two at once: {state}"
            nexts = list(self.steps(state))
            if all(t.at in ENDS or i in state.dead for i, t in enumerate(state.threads)):
                assert not state.word.owner or state.word.owner - 1 in state.dead, f"left locked: {state}"
                ends.append(state)
            for new in nexts:
                before[new].append(state)
                if new not in seen:
                    seen.add(new)
                    todo.append(new)
        good = set(ends)
        todo = list(ends)
        while todo:
            for state in before[todo.pop()]:
                if state not in good:
                    good.add(state)
                    todo.append(state)
        stuck = seen - good
        assert not stuck, f"{len(stuck)} of {len(seen)} states can't come to the end, as {next(iter(stuck))}"
        return len(seen)

    def steps(self, state: State):
        for i, thread in enumerate(state.threads):
            if i in state.dead:
                continue
            yield from self.step(state, i, thread)
            if state.kills and thread.at != "done":
                yield replace(state, dead=state.dead | {i}, kills=state.kills - 1)

    @staticmethod
    def put(state: State, i: int, thread: Thread, word: Word | None = None, **others) -> State:
        threads = (*state.threads[:i], thread, *state.threads[i + 1 :])
        return replace(state, threads=threads, word=state.word if word is None else word, **others)

    # -- the protocol

    def step(self, state: State, i: int, t: Thread):
        me, word, put = i + 1, state.word, self.put

        if t.at == "start":  # tl_lock_try
            if not t.left:
                yield put(state, i, replace(t, at="done"))
            elif word == FREE:
                yield put(state, i, replace(t, at="critical"), Word(me))
            else:
                yield put(state, i, replace(t, at="publish"))

        elif t.at == "publish":  # tl_publish
            ticket = t.ticket or state.ticket + 1
            yield put(state, i, replace(t, at="look", record=WAITING, ticket=ticket, then="sleep"),
                      ticket=max(state.ticket, ticket))  # fmt: skip

        elif t.at == "look":  # tl_lock_look: the load
            yield put(state, i, replace(t, at="look_cas", word=word))

        elif t.at == "look_cas":
            seen = t.word
            if (not seen.owner and (t.entitled or not seen.reserved)) or (
                seen.owner and seen.owner - 1 in state.dead and t.entitled
            ):
                if word == seen:
                    yield put(state, i, replace(t, at="withdraw_got"), Word(me, waited=True))
                else:
                    yield put(state, i, replace(t, word=word))
            elif seen.waited:
                yield put(state, i, replace(t, at=t.then))
            elif word == seen:
                yield put(state, i, replace(t, at=t.then), replace(word, waited=True))
            else:
                yield put(state, i, replace(t, word=word))

        elif t.at == "withdraw_got":  # a claim that comes now is not needed: the word says that somebody waits
            yield put(state, i, replace(t, at="critical", record=IDLE, ticket=0, entitled=False))

        elif t.at == "sleep":
            if t.record == NOTIFIED:
                yield put(state, i, replace(t, at="look", entitled=True, then="publish"))
            else:
                if state.dead:  # slices are over now and then
                    yield put(state, i, replace(t, at="look", entitled=True, then="sleep"))
                if t.tries:  # the time is over
                    yield put(state, i, replace(t, at="look", tries=t.tries - 1, then="withdraw"))

        elif t.at == "withdraw":  # tl_withdraw
            if t.record == NOTIFIED:  # out of time: one look more; an exception: none
                yield put(state, i, replace(t, at="look", record=IDLE, entitled=True, then="pass_on"))
                yield put(state, i, replace(t, at="pass_on", record=IDLE))
            else:
                yield put(state, i, replace(t, at="start", record=IDLE, ticket=0, entitled=False, left=t.left - 1))

        elif t.at == "pass_on":  # tl_lock_pass_on
            out = replace(t, at="start", record=IDLE, ticket=0, entitled=False, left=t.left - 1)
            if self.broken == "no pass on":
                yield put(state, i, out)
            elif word.owner:
                yield put(state, i, out, replace(word, waited=True))
            else:
                yield put(state, i, replace(out, at="notify", left=t.left - 1, scan=0, best=-1, after="start",
                                            fair=False), FREE)  # fmt: skip

        elif t.at == "critical":
            yield put(state, i, replace(t, at="release"))

        elif t.at == "release":  # tl_lock_release: the load
            yield put(state, i, replace(t, at="release_cas", word=word))

        elif t.at == "release_cas":
            if t.word.waited:
                for fair in (False, True):
                    yield put(state, i, replace(t, at="let_go", fair=fair))
            elif word == t.word:
                yield put(state, i, replace(t, at="start", left=t.left - 1), FREE)
            else:
                yield put(state, i, replace(t, word=word))

        elif t.at == "let_go":  # tl_lock_let_go
            if word != t.word:
                yield put(state, i, replace(t, word=word))
            else:
                fresh = Word(0, waited=True, reserved=True) if t.fair else FREE
                yield put(state, i, replace(t, at="notify", scan=0, best=-1, left=t.left - 1,
                                            after="unreserve" if t.fair else "start"), fresh)  # fmt: skip

        elif t.at == "notify":  # tl_notify: one record a step
            if t.scan < len(state.threads):
                other, best = state.threads[t.scan], t.best
                if other.record == WAITING and (best < 0 or other.ticket < state.threads[best].ticket):
                    best = t.scan
                yield put(state, i, replace(t, scan=t.scan + 1, best=best))
            elif t.best < 0:
                yield put(state, i, replace(t, at=t.after))
            else:
                other = state.threads[t.best]
                if other.record != WAITING:  # it has left: look again
                    yield put(state, i, replace(t, scan=0, best=-1))
                elif t.best in state.dead:  # a dead waiter is taken off the board, unless nobody looks whether it lives
                    gone = self.put(state, t.best, replace(other, record=IDLE))
                    yield put(gone, i, replace(t, scan=0, best=-1))
                else:
                    woken = self.put(state, t.best, replace(other, record=NOTIFIED))
                    yield put(woken, i, replace(t, at="start", best=-1))

        elif t.at == "unreserve":  # reserved for nobody
            if word == Word(0, waited=True, reserved=True):
                yield put(state, i, replace(t, at="notify", scan=0, best=-1, after="start"), FREE)
            else:
                yield put(state, i, replace(t, at="start"))
