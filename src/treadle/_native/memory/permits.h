/* Permits: a semaphore in shared memory that knows which process has how many of them.
 *
 *   word = value (31) | WAITED (1) | last: process (10), what (2), sequence (20)
 *
 * An operation is one compare-and-swap of the word, which also says who did it.  Whoever operates next first *settles* it:
 * writes it into the doer's row (how many permits it has, sequence), by a compare-and-swap that only the first of several
 * settlers wins.  So at each moment the rows and the last operation together say exactly who has what.
 */
#ifndef TREADLE_PERMITS_H
#define TREADLE_PERMITS_H

#include "memory/arena.h"

#define TL_PERMITS_MOST 0x7fffffffu
#define TL_PERMITS_WAITED ((uint64_t)1 << 32)
#define TL_PERMITS_VALUE(word) ((uint32_t)((word) >> 33))

void tl_permits_init(uint32_t number, uint32_t value, uint32_t bound);
/* Take one; false if there is none. */
bool tl_permits_take(uint32_t number);
enum tl_given { TL_GIVEN, TL_TOO_MANY };
/* Give one, and wake a waiter.  TL_TOO_MANY if that would exceed the bound. */
enum tl_given tl_permits_give(uint32_t number, uint64_t object);
/* How many this process has: what it took, less what it gave, but not below 0. */
uint32_t tl_permits_net(uint32_t number);
/* Step (2) of parking: say that somebody waits. True if there is a permit by now. */
bool tl_permits_mark(uint32_t number);
/* Wake n waiters. */
void tl_permits_wake(uint32_t number, uint64_t object, int64_t n);
/* Give back what dead processes had, but never more than is missing. How many permits. */
uint32_t tl_permits_look_for_dead(uint32_t number, uint64_t object);
/* The same for one process that is dead, whose epoch was the given one; afterwards its last operation is settled. */
uint32_t tl_permits_recover(uint32_t number, uint32_t entry, uint32_t epoch);

#endif
