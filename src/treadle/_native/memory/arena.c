/* The arena; see arena.h and README.md. */
#include "memory/arena.h"
#include "board/guard.h"
#include "memory/permits.h"
#include "system/points.h"

#include <errno.h>
#include <pthread.h>

#define PATIENCE 10000000000u /* ns that a child which is being forked may take until it says that it lives */
#define WRAP 64u              /* freed slots that are worth a search from the start */

_Static_assert(sizeof(struct tl_slot) == 256, "slots tile pages");
_Static_assert(offsetof(struct tl_slot, cells) + TL_CELLS * 8 == sizeof(struct tl_slot), "cells fill a slot");
_Static_assert(sizeof(struct tl_entry) == 64, "entries tile pages");
_Static_assert(TL_ARENA_ROWS % 4096 == 0, "rows tile pages");
_Static_assert(TL_ARENA_ROWS + (uint64_t)TL_PROCESSES * TL_SLOTS * 8 == TL_ARENA_SIZE, "as board.h says");

struct tl_arena tl_arena;

/* What this process has: how many objects of its own refer to each slot, and which life of it that was.
 * Invariant: references[n] > 0 <=> its word for n says HELD, whenever nobody is in the guard. */
static uint32_t references[TL_SLOTS], generations[TL_SLOTS];
static uint32_t slots_held; /* how many of them are above 0 */
static struct tl_guard guard;
static uint32_t reserved; /* the entry for the child that is being forked now; 0: none */
static uint64_t reserved_owner;

static uint64_t owner_word(uint32_t epoch, uint32_t pid)
{
    return (uint64_t)(epoch & 0xffffffu) << 40 | pid;
}

/* -- the table of processes ------------------------------------------------------------------------------------------ */

static bool alive(uint32_t entry, uint64_t owner)
{
    uint32_t pid = TL_ENTRY_PID(owner);
    if (pid == 0 || pid == TL_ENTRY_DEAD)
        return false;
    if (owner & TL_ENTRY_FORKING) /* its process may not have begun to run, and none will if the fork failed */
        return os_now() - atomic_load(&tl_entry(entry)->stamp) < PATIENCE;
    return pid == tl_process.pid || os_process_alive(pid, atomic_load(&tl_entry(entry)->start));
}

bool tl_entry_alive(uint32_t entry)
{
    return alive(entry, atomic_load(&tl_entry(entry)->owner));
}

static bool check_slot(uint32_t number, uint32_t generation, bool pressure);

/* Clear away what a dead process has left.  Several sweepers may be at it; each step is a compare-and-swap that one of
 * them wins, and each leaves what the next sweep can go on with. */
static uint32_t bury(uint32_t entry, uint64_t owner)
{
    uint32_t epoch = TL_ENTRY_EPOCH(owner), page, i, freed = 0;
    uint64_t dead = owner_word(epoch, TL_ENTRY_DEAD), rows;
    /* From here on no child can take it over any more. */
    if (owner != dead && !atomic_compare_exchange_strong(&tl_entry(entry)->owner, &owner, dead))
        return 0;
    TL_POINT("arena.bury.dead");
    rows = atomic_load(&tl_entry(entry)->rows);
    for (page = 0; page < TL_SLOTS / TL_ROW_PAGE; page++) {
        if (!(rows >> page & 1))
            continue;
        for (i = page * TL_ROW_PAGE; i < (page + 1) * TL_ROW_PAGE; i++) {
            uint64_t word = atomic_load(tl_hold(entry, i)), state;
            uint32_t kind;
            if (TL_HOLD_IS_CLEAR(word) || TL_HOLD_EPOCH(word) != (epoch & 0x3ffu))
                continue;
            state = atomic_load(&tl_slot(i)->state);
            kind = atomic_load(&tl_slot(i)->kind);
            if (TL_SLOT_PHASE(state) != TL_SLOT_FREE && (kind == TL_SLOT_SEMAPHORE || kind == TL_SLOT_BOUNDED))
                tl_permits_recover(i, entry, epoch);
            TL_POINT("arena.bury.recovered");
            word = atomic_load(tl_hold(entry, i));
            while (!TL_HOLD_IS_CLEAR(word) && TL_HOLD_EPOCH(word) == (epoch & 0x3ffu) &&
                   !atomic_compare_exchange_weak(tl_hold(entry, i), &word, TL_HOLD_CLEAR(word))) {
            }
            TL_POINT("arena.bury.cleared");
            if (word & TL_HELD)
                freed += check_slot(i, TL_SLOT_GENERATION(state), false);
        }
    }
    /* Unknown, lest the next one that claims it is taken for a process that ended long ago. */
    atomic_store(&tl_entry(entry)->start, 0);
    atomic_compare_exchange_strong(&tl_entry(entry)->owner, &dead, owner_word(epoch + 1, 0));
    return freed;
}

static uint32_t bury_the_dead(void)
{
    uint32_t entry, freed = 0, high = atomic_load(&tl_arena_head()->processes);
    for (entry = 1; entry < high; entry++) {
        uint64_t owner = atomic_load(&tl_entry(entry)->owner);
        if (TL_ENTRY_PID(owner) != 0 && !alive(entry, owner))
            freed += bury(entry, owner);
    }
    return freed;
}

/* A free entry: its number, or 0 with *error. */
static uint32_t claim_entry(int *error)
{
    bool swept = false;
    for (;;) {
        uint32_t high = atomic_load(&tl_arena_head()->processes), entry;
        for (entry = 1; entry < high; entry++) {
            uint64_t owner = atomic_load(&tl_entry(entry)->owner);
            if (TL_ENTRY_PID(owner) == 0 &&
                atomic_compare_exchange_strong(&tl_entry(entry)->owner, &owner, owner | tl_process.pid)) {
                atomic_store(&tl_entry(entry)->start, tl_process.start);
                return entry;
            }
        }
        if (!swept) {
            bury_the_dead();
            swept = true;
            continue;
        }
        if (high >= TL_PROCESSES) {
            *error = EAGAIN;
            return 0;
        }
        *error = os_memory_grow(tl_board.fd, TL_ARENA_OFFSET + TL_ARENA_ENTRIES + high * sizeof(struct tl_entry),
                                sizeof(struct tl_entry));
        if (*error != 0)
            return 0;
        atomic_compare_exchange_strong(&tl_arena_head()->processes, &high, high + 1);
    }
}

static int need_row(uint32_t entry, uint32_t number)
{
    uint32_t page = number / TL_ROW_PAGE;
    int error;
    if (tl_hold_ready(entry, number))
        return 0;
    error = os_memory_grow(tl_board.fd,
                           TL_ARENA_OFFSET + TL_ARENA_ROWS + ((size_t)entry * TL_SLOTS + page * TL_ROW_PAGE) * 8,
                           TL_ROW_PAGE * 8);
    if (error == 0)
        atomic_fetch_or(&tl_entry(entry)->rows, (uint64_t)1 << page);
    return error;
}

/* Say that this process has the slot.  What it did in the same life of it before stays known. */
static void set_hold(uint32_t entry, uint32_t number, uint32_t generation)
{
    uint64_t tags = TL_HELD | ((uint64_t)TL_ENTRY_EPOCH(atomic_load(&tl_entry(entry)->owner)) & 0x3ffu) << 53 |
                    ((uint64_t)generation & 0x7ffu) << 42;
    uint64_t word = atomic_load(tl_hold(entry, number)), next;
    bool same = entry == tl_arena.entry && generations[number] == generation;
    do
        next = same && ((word ^ tags) & TL_HOLD_TAGS & ~TL_HELD) == 0 ? word | TL_HELD : tags | TL_HOLD_CLEAR(word);
    while (!atomic_compare_exchange_weak(tl_hold(entry, number), &word, next));
}

/* -- a slot's life ---------------------------------------------------------------------------------------------------- */

static bool anybody_has(uint32_t number, uint32_t generation)
{
    uint32_t entry, high = atomic_load(&tl_arena_head()->processes);
    for (entry = 1; entry < high; entry++)
        if (TL_ENTRY_PID(atomic_load(&tl_entry(entry)->owner)) != 0 && tl_hold_ready(entry, number)) {
            uint64_t word = atomic_load(tl_hold(entry, number));
            if ((word & TL_HELD) && TL_HOLD_GENERATION(word) == (generation & 0x7ffu) && tl_entry_alive(entry))
                return true;
        }
    return false;
}

static void forget_numbers(uint32_t number, uint32_t generation)
{
    uint32_t entry, high = atomic_load(&tl_arena_head()->processes);
    for (entry = 1; entry < high; entry++) {
        uint64_t word;
        if (!tl_hold_ready(entry, number))
            continue;
        word = atomic_load(tl_hold(entry, number));
        if (!(word & TL_HELD) && TL_HOLD_GENERATION(word) == (generation & 0x7ffu))
            atomic_compare_exchange_strong(tl_hold(entry, number), &word, TL_HOLD_CLEAR(word));
    }
}

/* Free the slot if nobody has it: true if this call did.  pressure: even if a pickle of it may be on its way.
 *
 * (1) DYING with a serial of its own, (2) look whether anybody has it, (3) FREE if it still is DYING with that serial.
 * Who attaches says HELD first and looks at the state then: so either (2) sees it, or it sees DYING, makes it LIVE, and
 * (3) fails.  Whoever drops it meanwhile begins at (1) himself, with another serial, and then it is his to free. */
static bool check_slot(uint32_t number, uint32_t generation, bool pressure)
{
    struct tl_slot *slot = tl_slot(number);
    uint64_t state = atomic_load(&slot->state), dying;
    do {
        if (TL_SLOT_GENERATION(state) != generation || TL_SLOT_PHASE(state) == TL_SLOT_FREE)
            return false;
        dying = (state & ~(uint64_t)0xffffffffu) | ((((state >> 8) + 1) & 0xffffffu) << 8) | TL_SLOT_DYING;
        /* SYNC POINT: slot (dying) */
    } while (!atomic_compare_exchange_strong(&slot->state, &state, dying));
    TL_POINT("arena.drop.dying");
    state = dying;
    if (anybody_has(number, generation) || (!pressure && atomic_load(&slot->transit) > 0)) {
        atomic_compare_exchange_strong(&slot->state, &state, (dying & ~(uint64_t)0xff) | TL_SLOT_LIVE);
        return false;
    }
    TL_POINT("arena.drop.looked");
    if (!atomic_compare_exchange_strong(&slot->state, &state, (uint64_t)(generation + 1) << 32 | TL_SLOT_FREE))
        return false;
    TL_POINT("arena.drop.freed");
    forget_numbers(number, generation);
    atomic_store(&tl_arena_head()->hint, number);
    atomic_fetch_add(&tl_arena_head()->freed, 1);
    return true;
}

uint32_t tl_arena_sweep(bool pressure)
{
    uint32_t number, freed, high = atomic_load(&tl_arena_head()->high);
    freed = bury_the_dead();
    for (number = 1; number < high; number++) {
        uint64_t state = atomic_load(&tl_slot(number)->state);
        if (TL_SLOT_PHASE(state) != TL_SLOT_FREE && !anybody_has(number, TL_SLOT_GENERATION(state)))
            freed += check_slot(number, TL_SLOT_GENERATION(state), pressure);
    }
    return freed;
}

static int need_entry(void)
{
    int error = 0;
    if (tl_arena.lost)
        return ESTALE;
    if (tl_arena.entry == 0)
        tl_arena.entry = claim_entry(&error);
    return tl_arena.entry != 0 ? 0 : error;
}

/* Take the slot if it is free. 1 taken, 0 not, or a negative errno. */
static int take_slot(uint32_t number, uint32_t *generation)
{
    struct tl_slot *slot = tl_slot(number);
    uint64_t state = atomic_load(&slot->state), before;
    int error;
    if (TL_SLOT_PHASE(state) != TL_SLOT_FREE || references[number] > 0)
        return 0;
    error = need_row(tl_arena.entry, number);
    if (error != 0)
        return -error;
    *generation = TL_SLOT_GENERATION(state);
    before = atomic_load(tl_hold(tl_arena.entry, number));
    set_hold(tl_arena.entry, number, *generation);
    TL_POINT("arena.new.held");
    if (atomic_compare_exchange_strong(&slot->state, &state, state | TL_SLOT_LIVE)) {
        references[number] = 1;
        generations[number] = *generation;
        slots_held++;
        return 1;
    }
    atomic_store(tl_hold(tl_arena.entry, number), before & ~TL_HELD);
    check_slot(number, *generation, false); /* who took it may have dropped it and seen the word of this process */
    return 0;
}

/* [from, upto): 1 taken, 0 none is free, or a negative errno. */
static int take_between(uint32_t from, uint32_t upto, uint32_t *number, uint32_t *generation)
{
    int taken = 0;
    for (*number = from; *number < upto; ++*number)
        if ((taken = take_slot(*number, generation)) != 0)
            break;
    return taken;
}

static int grow(void)
{
    struct tl_arena_head *head = tl_arena_head();
    uint32_t high = atomic_load(&head->high), ready = atomic_load(&head->ready);
    if (high >= TL_SLOTS)
        return EAGAIN;
    while (ready <= high) {
        int error = os_memory_grow(tl_board.fd, TL_ARENA_OFFSET + TL_ARENA_SLOTS + ready * sizeof(struct tl_slot),
                                   TL_SLOT_CHUNK * sizeof(struct tl_slot));
        if (error != 0)
            return error;
        if (atomic_compare_exchange_strong(&head->ready, &ready, ready + TL_SLOT_CHUNK))
            ready += TL_SLOT_CHUNK;
    }
    atomic_compare_exchange_strong(&head->high, &high, high + 1);
    return 0;
}

static int find_slot(uint32_t *number, uint32_t *generation)
{
    struct tl_arena_head *head = tl_arena_head();
    bool swept = false;
    int error = need_entry(), taken;
    if (error != 0)
        return error;
    for (;;) {
        uint32_t high = atomic_load(&head->high), hint = atomic_load(&head->hint);
        if (hint == 0 || hint > high)
            hint = 1;
        taken = take_between(hint, high, number, generation);
        if (taken == 0 && (atomic_load(&head->freed) > WRAP || high >= TL_SLOTS)) {
            atomic_store(&head->freed, 0);
            taken = take_between(1, hint, number, generation);
        }
        if (taken != 0)
            break;
        if (!swept && (high % TL_SLOT_CHUNK == 0 || high >= TL_SLOTS)) {
            swept = true;
            if (tl_arena_sweep(high >= TL_SLOTS) > 0)
                continue;
        }
        error = grow();
        if (error != 0)
            return error;
    }
    if (taken < 0)
        return -taken;
    atomic_store(&head->hint, *number + 1);
    return 0;
}

int tl_arena_new(enum tl_slot_kind kind, uint32_t *number, uint32_t *generation)
{
    struct tl_slot *slot;
    uint32_t i;
    int error;
    tl_guard_enter(&guard, TL_RANK_ARENA);
    error = find_slot(number, generation);
    tl_guard_leave(&guard);
    if (error != 0)
        return error;
    slot = tl_slot(*number);
    atomic_store(&slot->transit, 0);
    for (i = 0; i < 6; i++)
        atomic_store(&slot->u.words[i], 0);
    tl_text_store(slot->name, TL_SLOT_NAME, "");
    tl_text_store(slot->place, TL_SLOT_PLACE, "");
    atomic_store(&slot->kind, (uint32_t)kind);
    return 0;
}

static int attach_first(uint32_t number, uint32_t generation)
{
    struct tl_slot *slot = tl_slot(number);
    uint64_t state, before;
    int error = need_entry();
    if (error == 0)
        error = need_row(tl_arena.entry, number);
    if (error != 0)
        return error;
    before = atomic_load(tl_hold(tl_arena.entry, number));
    set_hold(tl_arena.entry, number, generation);
    TL_POINT("arena.attach.held");
    state = atomic_load(&slot->state);
    for (;;) {
        if (TL_SLOT_GENERATION(state) != generation || TL_SLOT_PHASE(state) == TL_SLOT_FREE) {
            atomic_store(tl_hold(tl_arena.entry, number), before & ~TL_HELD);
            return ESTALE;
        }
        /* SYNC POINT: slot (revive) */
        if (TL_SLOT_PHASE(state) == TL_SLOT_LIVE ||
            atomic_compare_exchange_strong(&slot->state, &state, (state & ~(uint64_t)0xff) | TL_SLOT_LIVE))
            break;
    }
    references[number] = 1;
    generations[number] = generation;
    slots_held++;
    return 0;
}

int tl_arena_attach(uint32_t number, uint32_t generation)
{
    int error = 0;
    if (number == 0 || number >= atomic_load(&tl_arena_head()->high))
        return ESTALE;
    tl_guard_enter(&guard, TL_RANK_ARENA);
    if (references[number] == 0)
        error = attach_first(number, generation);
    else if (generations[number] != generation)
        error = ESTALE;
    else
        references[number]++;
    tl_guard_leave(&guard);
    return error;
}

void tl_arena_drop(uint32_t number, uint32_t generation)
{
    bool last;
    if (tl_arena.lost)
        return;
    tl_guard_enter(&guard, TL_RANK_ARENA);
    last = --references[number] == 0;
    slots_held -= last;
    if (last)
        atomic_fetch_and(tl_hold(tl_arena.entry, number), ~TL_HELD);
    tl_guard_leave(&guard);
    TL_POINT("arena.drop.dropped");
    if (last)
        check_slot(number, generation, false);
}

void tl_arena_sent(uint32_t number)
{
    atomic_fetch_add(&tl_slot(number)->transit, 1);
}

void tl_arena_received(uint32_t number)
{
    uint32_t transit = atomic_load(&tl_slot(number)->transit);
    while (transit > 0 && !atomic_compare_exchange_weak(&tl_slot(number)->transit, &transit, transit - 1)) {
    }
}

void tl_arena_used(uint32_t *slots, uint32_t *entries)
{
    uint32_t i, high = atomic_load(&tl_arena_head()->high);
    *slots = *entries = 0;
    for (i = 1; i < high; i++)
        *slots += TL_SLOT_PHASE(atomic_load(&tl_slot(i)->state)) != TL_SLOT_FREE;
    high = atomic_load(&tl_arena_head()->processes);
    for (i = 1; i < high; i++)
        *entries += TL_ENTRY_PID(atomic_load(&tl_entry(i)->owner)) != 0;
}

/* -- forks ------------------------------------------------------------------------------------------------------------ */

/* The child will have what its parent has, from the moment of the fork: so the parent has it on the child's behalf before
 * the fork.  If there is no room for that, the child finds nothing reserved, and must not touch shared objects. */
static void before_fork(void)
{
    uint32_t entry, page, i;
    int error;
    tl_guard_enter(&guard, TL_RANK_ARENA);
    reserved = 0;
    if (slots_held == 0 || tl_arena.lost)
        return;
    entry = claim_entry(&error);
    if (entry == 0)
        return;
    for (page = 0; page < TL_SLOTS / TL_ROW_PAGE; page++) {
        if (!(atomic_load(&tl_entry(tl_arena.entry)->rows) >> page & 1))
            continue;
        for (i = page * TL_ROW_PAGE; i < (page + 1) * TL_ROW_PAGE; i++)
            if (references[i] > 0) {
                if (need_row(entry, i) != 0) {
                    bury(entry, atomic_load(&tl_entry(entry)->owner));
                    return;
                }
                set_hold(entry, i, generations[i]);
            }
    }
    TL_POINT("arena.fork.copied");
    /* Not this process's from here on: the child's as soon as it says so, nobody's if it does not. */
    atomic_store(&tl_entry(entry)->start, 0);
    atomic_store(&tl_entry(entry)->stamp, os_now());
    reserved_owner = atomic_load(&tl_entry(entry)->owner) | TL_ENTRY_FORKING;
    atomic_store(&tl_entry(entry)->owner, reserved_owner);
    reserved = entry;
}

static void parent_forked(void)
{
    tl_guard_leave(&guard);
}

static void child_forked(void)
{
    uint64_t owner = reserved_owner;
    /* The guard is this thread's: it was entered before the fork. */
    tl_guard_leave(&guard);
    tl_arena.entry = reserved;
    if (slots_held == 0 || tl_arena.lost)
        return;
    TL_POINT("arena.fork.child");
    if (reserved == 0 || !atomic_compare_exchange_strong(&tl_entry(reserved)->owner, &owner,
                                                         owner_word(TL_ENTRY_EPOCH(owner), tl_process.pid)))
        tl_arena.lost = true;
    else
        atomic_store(&tl_entry(reserved)->start, tl_process.start);
}

int tl_arena_setup(void)
{
    static bool done;
    int error;
    if (done)
        return 0;
    error = pthread_atfork(before_fork, parent_forked, child_forked);
    done = error == 0;
    return error;
}
