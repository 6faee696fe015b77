/* Rounds: a barrier in shared memory that notices when a party dies.
 *
 *   word = round (32) | broken (1) | outcomes of the last 15 rounds (30), 2 bits each, the newest lowest
 *
 * A party arrives by claiming the next cell of the round: a compare-and-swap that puts its token there.  Cells carry the
 * round's number, so those of earlier rounds count as empty and nobody has to clear them.  Who claims the last cell ends
 * the round, and anybody may end it before, as broken or reset: one compare-and-swap of the word, with the outcome in it.
 * There is no lock and no counter: a kill at any instruction leaves either no trace, or the token of a dead thread in a
 * cell, which the others see.
 */
#ifndef TREADLE_ROUNDS_H
#define TREADLE_ROUNDS_H

#include "memory/arena.h"

enum tl_outcome { TL_OPEN = 0, TL_THROUGH = 1, TL_BROKEN = 2, TL_RESET = 3 };

/* Where a party stands. */
struct tl_party {
    uint32_t round, index;
};

static inline uint32_t tl_rounds_now(uint64_t word) { return (uint32_t)(word >> 32); }
static inline bool tl_rounds_broken(uint64_t word) { return (word >> 31 & 1) != 0; }

/* Begin: parties cells in slots of kind TL_SLOT_CELLS, the first of which is `first`; each has room for TL_CELLS - 1. */
void tl_rounds_init(uint32_t number, uint32_t parties, uint32_t first);
/* Make `next` the successor of a slot of cells. */
void tl_rounds_chain(uint32_t slot, uint32_t next);
enum tl_arrival { TL_ARRIVED, TL_IS_BROKEN, TL_FULL };
/* Arrive in the round that is open.  TL_FULL: all are there, but the last of them has not ended the round yet. */
enum tl_arrival tl_rounds_arrive(uint32_t number, tl_token token, struct tl_party *party);
/* How that round ended; TL_OPEN if it has not.  One that ended more than 15 rounds ago counts as broken. */
enum tl_outcome tl_rounds_outcome(uint32_t number, uint32_t round);
/* End that round, unless it has ended already, and wake those who wait for its end.  How it ended. */
enum tl_outcome tl_rounds_end(uint32_t number, uint64_t object, uint32_t round, enum tl_outcome outcome);
/* End the round that is open, whichever that is. */
void tl_rounds_force(uint32_t number, uint64_t object, enum tl_outcome outcome);
/* For one that found the barrier full: has the last party died before it ended the round?  Which round that is. */
bool tl_rounds_last_died(uint32_t number, uint32_t *round);
/* Is one of the parties next to this one dead?  Each looks at its neighbours, so together they see every one. */
bool tl_rounds_neighbour_died(uint32_t number, const struct tl_party *party);
/* How many have arrived in the round that is open. */
uint32_t tl_rounds_arrived(uint32_t number);

#endif
