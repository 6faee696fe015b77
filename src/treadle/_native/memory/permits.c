/* Permits; see permits.h and README.md. */
#include "memory/permits.h"
#include "system/points.h"

enum { NOBODY, TOOK, GAVE, LOST };

#define WAITED TL_PERMITS_WAITED
#define VALUE(word) TL_PERMITS_VALUE(word)
#define DOER(word) ((uint32_t)((word) >> 22) & 0x3ffu)
#define DID(word) ((uint32_t)((word) >> 20) & 3u)
#define SEQUENCE(word) ((uint32_t)(word) & 0xfffffu)

static uint64_t make(uint64_t value, uint64_t waited, uint32_t doer, uint32_t did, uint32_t sequence)
{
    return value << 33 | waited | (uint64_t)doer << 22 | (uint64_t)did << 20 | (sequence & 0xfffffu);
}

static _Atomic uint64_t *word_of(uint32_t number)
{
    return &tl_slot(number)->u.permits.word;
}

void tl_permits_init(uint32_t number, uint32_t value, uint32_t bound)
{
    atomic_store(&tl_slot(number)->u.permits.initial, value);
    atomic_store(&tl_slot(number)->u.permits.bound, bound);
    atomic_store(word_of(number), make(value, 0, 0, NOBODY, 0));
}

/* Write the last operation into the row of who did it.  Every operation but the one in the word is settled, for nobody
 * replaces the word without having done so: a row that is one behind lacks this very operation.
 *
 * The word is read again after the row: else it could be an old one, of a process whose entry another one has by now, and
 * whose first operation would look as if it were that of the new one.  If it is the same, the row is of that process, and
 * the word can't change before the row does. */
static void settle(uint32_t number, uint64_t word)
{
    _Atomic uint64_t *hold;
    uint64_t seen;
    if (DID(word) == NOBODY)
        return;
    hold = tl_hold(DOER(word), number);
    seen = atomic_load(hold);
    while (TL_HOLD_SEQUENCE(seen) == ((SEQUENCE(word) - 1) & 0xfffffu)) {
        uint32_t net = TL_HOLD_NET(seen);
        if (((atomic_load(word_of(number)) ^ word) & ~WAITED) != 0)
            return;
        if (DID(word) == LOST)
            net = 0;
        else if (DID(word) == TOOK)
            net += net < TL_NET_MOST;
        else
            net -= net > 0; /* who gives what another one took is not charged for it */
        /* SYNC POINT: settle (store) */
        if (atomic_compare_exchange_strong(hold, &seen,
                                           (seen & TL_HOLD_TAGS) | TL_HOLD_NUMBERS(net, SEQUENCE(word))))
            return;
    }
}

/* What this process's next operation is numbered; valid if the word is still the one that was settled. */
static uint32_t next_sequence(uint32_t number)
{
    return TL_HOLD_SEQUENCE(atomic_load(tl_hold(tl_arena.entry, number))) + 1;
}

bool tl_permits_take(uint32_t number)
{
    uint64_t word = atomic_load(word_of(number));
    while (VALUE(word) != 0) {
        settle(number, word);
        TL_POINT("permits.take.settled");
        /* SYNC POINT: permit (acquire) */
        if (atomic_compare_exchange_strong(word_of(number), &word,
                                           make(VALUE(word) - 1, word & WAITED, tl_arena.entry, TOOK,
                                                next_sequence(number)))) {
            TL_POINT("permits.take.taken");
            return true;
        }
    }
    return false;
}

enum tl_given tl_permits_give(uint32_t number, uint64_t object)
{
    uint64_t word = atomic_load(word_of(number));
    do {
        if (VALUE(word) >= atomic_load(&tl_slot(number)->u.permits.bound))
            return TL_TOO_MANY;
        settle(number, word);
        TL_POINT("permits.give.settled");
        /* SYNC POINT: permit (release) */
    } while (!atomic_compare_exchange_strong(word_of(number), &word,
                                             make((uint64_t)VALUE(word) + 1, word & WAITED, tl_arena.entry, GAVE,
                                                  next_sequence(number))));
    TL_POINT("permits.give.given");
    if (word & WAITED)
        tl_permits_wake(number, object, 1);
    return TL_GIVEN;
}

uint32_t tl_permits_net(uint32_t number)
{
    settle(number, atomic_load(word_of(number)));
    return TL_HOLD_NET(atomic_load(tl_hold(tl_arena.entry, number)));
}

bool tl_permits_mark(uint32_t number)
{
    return VALUE(atomic_fetch_or(word_of(number), WAITED)) != 0;
}

/* The waiter publishes, sets the mark, looks; this takes the mark off and looks for publications: one of the two sees the
 * other.  A mark that a killed waker took off, or a claim that a killed waiter had, is made up for by the others' slices. */
void tl_permits_wake(uint32_t number, uint64_t object, int64_t n)
{
    struct tl_woken woken = tl_notify(object, TL_SLICED, n, NULL);
    uint64_t word;
    if (woken.left > 0)
        return;
    atomic_fetch_and(word_of(number), ~WAITED);
    TL_POINT("permits.wake.unmarked");
    if (tl_waiters(object, 0) > 0) {
        word = atomic_fetch_or(word_of(number), WAITED);
        if (VALUE(word) != 0)
            tl_notify(object, TL_SLICED, (int64_t)VALUE(word), NULL);
    }
}

/* Is the word of a row about this life of the slot? */
static bool ours(uint32_t number, uint64_t hold)
{
    return TL_HOLD_GENERATION(hold) == (TL_SLOT_GENERATION(atomic_load(&tl_slot(number)->state)) & 0x7ffu);
}

/* How many permits are neither free nor in the hands of living processes, if the initial value is what there is of them.
 * If permits were taken here and given back there, this may be less than what the dead had, never more: a permit too many
 * would break what the semaphore is for. */
static uint32_t missing(uint32_t number, uint64_t word, uint32_t dead)
{
    int64_t left = (int64_t)atomic_load(&tl_slot(number)->u.permits.initial) - VALUE(word);
    uint32_t entry, high = atomic_load(&tl_arena_head()->processes);
    for (entry = 1; entry < high && left > 0; entry++) {
        uint64_t hold;
        if (entry == dead || TL_ENTRY_PID(atomic_load(&tl_entry(entry)->owner)) == 0 || !tl_hold_ready(entry, number))
            continue;
        /* SYNC POINT: settle (load). All of them belong to `word`: if it changes meanwhile, the caller's exchange fails. */
        hold = atomic_load(tl_hold(entry, number));
        if (TL_HOLD_NET(hold) > 0 && ours(number, hold) && tl_entry_alive(entry))
            left -= TL_HOLD_NET(hold);
    }
    return left > 0 ? (uint32_t)left : 0;
}

uint32_t tl_permits_recover(uint32_t number, uint32_t entry, uint32_t epoch)
{
    struct tl_slot *slot = tl_slot(number);
    uint32_t generation = TL_SLOT_GENERATION(atomic_load(&slot->state)), given = 0;
    for (;;) {
        uint64_t word = atomic_load(word_of(number)), hold;
        uint32_t back = 0;
        hold = atomic_load(tl_hold(entry, number));
        if (TL_HOLD_IS_CLEAR(hold) || TL_HOLD_EPOCH(hold) != (epoch & 0x3ffu) ||
            !ours(number, hold) || TL_SLOT_GENERATION(atomic_load(&slot->state)) != generation)
            return given; /* another sweeper has done it all, or these numbers are of an earlier life of the slot */
        settle(number, word);
        TL_POINT("permits.recover.settled");
        hold = atomic_load(tl_hold(entry, number));
        if (TL_HOLD_NET(hold) > 0) {
            back = missing(number, word, entry);
            if (back > TL_HOLD_NET(hold))
                back = TL_HOLD_NET(hold);
        }
        if (back == 0) {
            /* Nothing to give back. If its operation is the last one, say that nobody is to be looked up for it: the entry
             * will be somebody else's. */
            if (((atomic_load(word_of(number)) ^ word) & ~WAITED) != 0)
                continue; /* counted while somebody operated: count anew */
            if (DID(word) == NOBODY || DOER(word) != entry ||
                atomic_compare_exchange_strong(word_of(number), &word, make(VALUE(word), word & WAITED, entry, NOBODY, SEQUENCE(word))))
                return given;
            continue;
        }
        /* Its permits come back as an operation of its own, so that they do exactly once. SYNC POINT: permit (recover) */
        if (atomic_compare_exchange_strong(word_of(number), &word,
                                           make((uint64_t)VALUE(word) + back, word & WAITED, entry, LOST,
                                                TL_HOLD_SEQUENCE(hold) + 1))) {
            TL_POINT("permits.recover.given");
            given += back;
        }
    }
}

uint32_t tl_permits_look_for_dead(uint32_t number, uint64_t object)
{
    uint32_t entry, given = 0, high = atomic_load(&tl_arena_head()->processes);
    settle(number, atomic_load(word_of(number)));
    for (entry = 1; entry < high; entry++) {
        uint64_t owner = atomic_load(&tl_entry(entry)->owner);
        if (entry == tl_arena.entry || TL_ENTRY_PID(owner) == 0 || !tl_hold_ready(entry, number) ||
            TL_HOLD_NET(atomic_load(tl_hold(entry, number))) == 0 || tl_entry_alive(entry))
            continue;
        given += tl_permits_recover(number, entry, TL_ENTRY_EPOCH(owner));
    }
    if (given > 0)
        tl_permits_wake(number, object, given);
    return given;
}
