/* Deadlocks: cycles of threads that wait for each other.
 *
 * Each waiter publishes whom it waits for (its edge) and looks again with every slice, so an edge may be out of date.
 * A cycle is therefore confirmed before anybody acts on it: the checker remembers each member's episode, edge and
 * beat, pokes them all, and takes the cycle for real once each has looked twice again (so one whole look began after
 * the checker's first) and still is in the same episode with the same edge.  During that time no member ran, and only
 * its owner gives such a lock back, so nothing can have changed between two looks.
 *
 * Members of one cycle see it at once; the one with the youngest ticket acts, the others poke it.
 */
#ifndef TREADLE_CYCLE_H
#define TREADLE_CYCLE_H

#include "board/park.h"

#define TL_CYCLE_MAX 256

struct tl_member {
    uint32_t record, state, beat;
    tl_token edge;
    uint64_t ticket;
};

struct tl_cycle {
    uint32_t length; /* 0: none */
    struct tl_member members[TL_CYCLE_MAX]; /* members[0] is the checker; each waits for the next */
};

enum tl_cycle_state { TL_NO_CYCLE, TL_CYCLE_MAYBE, TL_CYCLE_REAL, TL_CYCLE_NOT_MINE };

/* Look for a cycle through the wait that `record` of this thread has published. `cycle` carries what was seen from
 * one call to the next within an episode; start with length 0.  patient: also wait until all have written their text. */
enum tl_cycle_state tl_cycle_check(struct tl_self *self, uint32_t record, struct tl_cycle *cycle,
                                   bool patient);

#endif
