/* Rounds; see rounds.h. */
#include "memory/rounds.h"
#include "system/points.h"

#define HISTORY 15u
#define BROKEN ((uint64_t)1 << 31)
#define OUTCOMES (((uint64_t)1 << 30) - 1)

/* A cell = generation (32) | record (15) | round (17): a token, and which round it is in. */
#define TAG(round) ((uint64_t)(round) & 0x1ffffu)
#define IN_ROUND(cell, round) ((cell) != 0 && ((cell) & 0x1ffffu) == TAG(round))

_Static_assert(TL_BOARD_RECORDS <= 1u << 15, "a record's number fits into a cell");
#define LAST (TL_CELLS - 1)

static _Atomic uint64_t *word_of(uint32_t number)
{
    return &tl_slot(number)->u.barrier.word;
}

static uint32_t parties_of(uint32_t number)
{
    return atomic_load_explicit(&tl_slot(number)->u.barrier.parties, memory_order_relaxed);
}

static _Atomic uint64_t *cell_of(uint32_t number, uint32_t index)
{
    uint32_t slot = atomic_load_explicit(&tl_slot(number)->u.barrier.next, memory_order_relaxed);
    for (; index >= LAST; index -= LAST)
        slot = (uint32_t)atomic_load_explicit(&tl_slot(slot)->cells[LAST], memory_order_relaxed);
    return &tl_slot(slot)->cells[index];
}

void tl_rounds_chain(uint32_t slot, uint32_t next)
{
    uint32_t i;
    for (i = 0; i < LAST; i++)
        atomic_store(&tl_slot(slot)->cells[i], 0);
    atomic_store(&tl_slot(slot)->cells[LAST], next);
}

void tl_rounds_init(uint32_t number, uint32_t parties, uint32_t first)
{
    atomic_store(&tl_slot(number)->u.barrier.parties, parties);
    atomic_store(&tl_slot(number)->u.barrier.next, first);
    atomic_store(word_of(number), (uint64_t)1 << 32);
}

/* SYNC POINT: round (load) */
static enum tl_outcome outcome_in(uint64_t word, uint32_t round)
{
    uint32_t ago = tl_rounds_now(word) - round;
    if (ago == 0)
        return TL_OPEN;
    return ago > HISTORY ? TL_BROKEN : (enum tl_outcome)(word >> 2 * (ago - 1) & 3);
}

enum tl_outcome tl_rounds_outcome(uint32_t number, uint32_t round)
{
    return outcome_in(atomic_load(word_of(number)), round);
}

enum tl_arrival tl_rounds_arrive(uint32_t number, tl_token token, struct tl_party *party)
{
    uint32_t parties = parties_of(number);
    for (;;) {
        uint64_t word = atomic_load(word_of(number)), mine, cell;
        bool claimed = false;
        if (tl_rounds_broken(word))
            return TL_IS_BROKEN;
        party->round = tl_rounds_now(word);
        mine = (token & ~(uint64_t)0xffffffff) | (uint64_t)TL_RECORD_OF(token) << 17 | TAG(party->round);
        for (party->index = 0; party->index < parties && !claimed; party->index++) {
            cell = atomic_load(cell_of(number, party->index));
            /* SYNC POINT: cell (store). In order: who has the last cell knows that all before it are taken. */
            while (!IN_ROUND(cell, party->round) && !claimed)
                claimed = atomic_compare_exchange_strong(cell_of(number, party->index), &cell, mine);
        }
        if (!claimed) {
            if (tl_rounds_outcome(number, party->round) == TL_OPEN)
                return TL_FULL;
            continue;
        }
        party->index--;
        TL_POINT("barrier.arrive.claimed");
        /* If the round was reset before the cell was claimed, nobody has seen it there: then arrive in the next one.  If
         * all went through, this cell was among theirs. */
        if (tl_rounds_outcome(number, party->round) != TL_RESET)
            return TL_ARRIVED;
    }
}

static uint64_t ended(uint64_t word, enum tl_outcome outcome)
{
    return (uint64_t)(tl_rounds_now(word) + 1) << 32 | (outcome == TL_BROKEN ? BROKEN : 0) |
           (((word << 2) | (uint64_t)outcome) & OUTCOMES);
}

enum tl_outcome tl_rounds_end(uint32_t number, uint64_t object, uint32_t round, enum tl_outcome outcome)
{
    uint64_t word = atomic_load(word_of(number));
    do {
        if (tl_rounds_now(word) != round)
            return outcome_in(word, round);
        /* SYNC POINT: round (store). All that the parties did before they arrived comes before what they do afterwards. */
    } while (!atomic_compare_exchange_strong(word_of(number), &word, ended(word, outcome)));
    TL_POINT("barrier.end.ended");
    tl_notify(object, 0, -1, NULL);
    return outcome;
}

void tl_rounds_force(uint32_t number, uint64_t object, enum tl_outcome outcome)
{
    uint64_t word = atomic_load(word_of(number));
    while (!atomic_compare_exchange_strong(word_of(number), &word, ended(word, outcome))) {
    }
    tl_notify(object, 0, -1, NULL);
}

uint32_t tl_rounds_arrived(uint32_t number)
{
    uint32_t round = tl_rounds_now(atomic_load(word_of(number))), parties = parties_of(number), count = 0;
    /* SYNC POINT: cell (load) */
    while (count < parties && IN_ROUND(atomic_load(cell_of(number, count)), round))
        count++;
    return count;
}

static bool died(uint32_t number, uint32_t index, uint32_t round)
{
    uint64_t cell = atomic_load(cell_of(number, index));
    return IN_ROUND(cell, round) && !tl_token_alive((cell & ~(uint64_t)0xffffffff) | (cell >> 17 & 0x7fff) << 8);
}

bool tl_rounds_neighbour_died(uint32_t number, const struct tl_party *party)
{
    uint32_t arrived = tl_rounds_arrived(number), k;
    /* Two of them, because the last one may be busy with the barrier's action and look at nobody. */
    for (k = 1; k <= 2 && k < arrived; k++)
        if (died(number, (party->index + k) % arrived, party->round))
            return true;
    return false;
}

bool tl_rounds_last_died(uint32_t number, uint32_t *round)
{
    *round = tl_rounds_now(atomic_load(word_of(number)));
    return died(number, parties_of(number) - 1, *round);
}
