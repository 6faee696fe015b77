/* Gauges: figures of single locks and queues, kept while somebody watches (`treadle top`), and only then.
 *
 * Who watches says until when, in the board's head, and says so again before that; nobody has to take it back.  While
 * nobody does, a queue's put or get costs one look at one word for it, and so does a wait; an uncontended lock nothing.
 * Gauges are for reading: nothing acts on them, and a torn or missing figure harms nobody.
 */
#ifndef TREADLE_GAUGE_H
#define TREADLE_GAUGE_H

#include "board/self.h"

#define TL_GAUGE_NAME 152
#define TL_GAUGE_PROBES 32u

struct tl_gauge {
    /* number of the watch << 1 | being written.  One of an older watch is free; so is 0. */
    _Atomic uint64_t turn;
    /* Invariant: these four do not change while turn is even and of the current watch. */
    _Atomic uint64_t object;
    _Atomic uint32_t pid; /* 0: the object is in shared memory */
    _Atomic uint32_t kind; /* enum tl_kind; of a queue: TL_QUEUE_GET */
    _Atomic char name[TL_GAUGE_NAME];
    /* Of a queue: how many items were ever put, and have left; the same when the gauge was made.  Under its guard. */
    _Atomic uint64_t puts, taken, puts_before, taken_before;
    _Atomic int64_t maxsize;
    /* Of anything else: how many waits ended with what they were for, and ns in all. */
    _Atomic uint64_t waits, waited;
    /* Of a lock: holds that began with a wait.  began belongs to the lock's owner; 0: its hold did not begin so. */
    _Atomic uint64_t holds, held, began;
};

static inline struct tl_gauge *tl_gauges(const struct tl_board *board)
{
    return (struct tl_gauge *)((char *)board->head + TL_GAUGE_OFFSET);
}

/* Is somebody watching, as far as one look tells?  He may have gone since: see tl_watching. */
static inline bool tl_watched(void)
{
    return TL_FOR_DIAGNOSIS &&
           __builtin_expect(atomic_load_explicit(atomic_load_explicit(&tl_watch, memory_order_relaxed),
                                                 memory_order_relaxed) != 0, 0);
}

/* The number of the watch that is on; 0: there is none any more. */
uint64_t tl_watching(uint64_t now);
/* Watch that board for so many ns from now.  0 or an errno. */
int tl_watch_board(struct tl_board *board, uint64_t ns);

/* The gauge of that object, or NULL. */
struct tl_gauge *tl_gauge_find(uint64_t watch, uint64_t object, uint32_t flags);
/* The same, made if there is none; NULL: there is no room. */
struct tl_gauge *tl_gauge_claim(uint64_t watch, uint64_t object, uint32_t flags, const char *name);
/* The object is gone: another one may come to be where it was. */
void tl_gauge_drop(uint64_t object, uint32_t flags);
/* The calling thread waited for that, and has it now. */
void tl_gauge_waited(struct tl_gauge *gauge, uint64_t began, uint64_t now, bool holds);
/* The calling thread owns the lock and is about to release it. */
void tl_gauge_held(uint64_t object, uint32_t flags, uint64_t now);

#endif
