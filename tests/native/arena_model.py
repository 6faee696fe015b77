"""A model of a slot's life in the arena, explored exhaustively: every interleaving of every atomic step.

It follows check_slot, attach_first, tl_arena_drop and tl_arena_sweep of src/treadle/_native/memory/arena.c: one atomic
access of shared memory a step.  What is left out: rows have one word each, and a process refers to the slot once.

Checked in every reachable state: the slot is never free while a live process has it.  In the end, it is free if nobody
has it and no pickle is on its way; if a process was killed, after one more sweep.  And who was sent it in a pickle that
counted finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FREE, LIVE, DYING = "free", "live", "dying"


@dataclass(frozen=True, slots=True)
class Process:
    acts: tuple[str, ...]  # what it still has to do: "send", "drop", "attach", "sweep"
    held: bool = False  # its word says HELD
    uses: bool = False  # it relies on having the slot
    at: str = "next"
    seen: tuple[int, int, str] = (0, 0, FREE)  # the state that it last read or wrote
    scan: int = 0


@dataclass(frozen=True, slots=True)
class State:
    slot: tuple[int, int, str]  # generation, serial, phase
    transit: int
    processes: tuple[Process, ...]
    dead: frozenset[int]
    kills: int
    lost: bool = False  # somebody could not attach


class ArenaModel:
    """acts: what each process does, one after the other; the first one has the slot at the start."""

    def __init__(self, acts: list[tuple[str, ...]], kills: int, transit: int = 0, broken: str = "") -> None:
        self.broken = broken
        processes = [Process(each, held=not i, uses=not i) for i, each in enumerate(acts)]
        self.start = State((0, 0, LIVE), transit, tuple(processes), frozenset(), kills)
        self.always_found = transit >= sum(each.count("attach") for each in acts)

    def check(self) -> int:
        """Explore all; AssertionError if something is wrong.  The number of states."""
        seen, todo = {self.start}, [self.start]
        while todo:
            state = todo.pop()
            having = [i for i, p in enumerate(state.processes) if p.uses and i not in state.dead]
            assert not having or state.slot[::2] == (0, LIVE) or state.slot[::2] == (0, DYING), f"robbed: {state}"
            assert not (state.lost and self.always_found), f"lost on its way: {state}"
            nexts = list(self.steps(state))
            if all(not p.acts or i in state.dead for i, p in enumerate(state.processes)):
                self.ended(state, having)
            for new in nexts:
                if new not in seen:
                    seen.add(new)
                    todo.append(new)
        return len(seen)

    def ended(self, state: State, having: list[int]) -> None:
        if having or state.transit > 0:
            assert state.slot[0] == 0, f"freed too early: {state}"
        elif not state.dead:
            assert state.slot == (1, 0, FREE), f"left behind: {state}"
        else:  # a sweeper alone: it finds nobody that lives and has it
            assert not any(p.held for i, p in enumerate(state.processes) if i not in state.dead), f"stuck: {state}"

    def steps(self, state: State):
        for i, process in enumerate(state.processes):
            if i in state.dead or not process.acts:
                continue
            yield from self.step(state, i, process)
            if state.kills:
                yield replace(state, dead=state.dead | {i}, kills=state.kills - 1)

    @staticmethod
    def put(state: State, i: int, process: Process, **others) -> State:
        return replace(state, processes=(*state.processes[:i], process, *state.processes[i + 1 :]), **others)

    def done(self, process: Process) -> Process:
        return replace(process, acts=process.acts[1:], at="next", seen=(0, 0, FREE), scan=0)

    def step(self, state: State, i: int, p: Process):
        put, slot = self.put, state.slot
        act = p.acts[0]

        if p.at == "next":
            if act == "send":  # tl_arena_sent
                yield put(state, i, self.done(p), transit=state.transit + (1 if p.uses else 0))
            elif act == "drop":
                if p.uses:  # tl_arena_drop: no longer relied upon, then the word
                    yield put(state, i, replace(p, uses=False, held=False, at="load"))
                else:  # it could not attach: there is nothing to drop
                    yield put(state, i, self.done(p))
            elif act == "attach":  # attach_first: the word first
                if self.broken == "late word":
                    yield put(state, i, replace(p, at="attach_load"))
                else:
                    yield put(state, i, replace(p, held=True, at="attach_load"))
            else:
                yield put(state, i, replace(p, at="load"))

        elif p.at == "attach_load":
            yield put(state, i, replace(p, seen=slot, at="attach_decide"))

        elif p.at == "attach_decide":
            generation, serial, phase = p.seen
            if generation != 0 or phase == FREE:
                yield put(state, i, replace(self.done(p), held=False), lost=True)
            elif phase == LIVE:
                yield put(state, i, replace(p, held=True, uses=True, at="received"))
            elif slot == p.seen:  # SYNC POINT: slot (revive)
                yield put(state, i, replace(p, held=True, uses=True, at="received"), slot=(generation, serial, LIVE))
            else:
                yield put(state, i, replace(p, seen=slot))

        elif p.at == "received":  # tl_arena_received
            yield put(state, i, self.done(p), transit=max(0, state.transit - 1))

        elif p.at == "load":  # check_slot
            yield put(state, i, replace(p, seen=slot, at="dying"))

        elif p.at == "dying":
            generation, serial, phase = p.seen
            if generation != 0 or phase == FREE:
                yield put(state, i, self.done(p))
            elif slot == p.seen:  # SYNC POINT: slot (dying)
                mine = (generation, serial if self.broken == "no serial" else serial + 1, DYING)
                yield put(state, i, replace(p, seen=mine, at="scan", scan=0), slot=mine)
            else:
                yield put(state, i, replace(p, seen=slot))

        elif p.at == "scan":  # anybody_has: one word a step
            if p.scan < len(state.processes):
                found = state.processes[p.scan].held and p.scan not in state.dead
                yield put(state, i, replace(p, at="revive") if found else replace(p, scan=p.scan + 1))
            else:
                yield put(state, i, replace(p, at="revive" if state.transit else "free"))

        elif p.at == "revive":
            alive = (p.seen[0], p.seen[1], LIVE)
            yield put(state, i, self.done(p), slot=alive if slot == p.seen else slot)

        elif p.at == "free":
            yield put(state, i, self.done(p), slot=(1, 0, FREE) if slot == p.seen else slot)
