/* A mutex for the core's own short sections.  It never touches the interpreter: nothing inside a guarded section may
 * run Python code, attach to the interpreter, allocate Python objects or drop a reference to one.  So a thread that
 * waits for a guard need not let go of the GIL.
 *
 * word: 0 free, else  fork epoch << 1 | 1.
 * A guard that carries an older epoch was held by a thread that a fork left behind: it is taken over.  The sections
 * commit by their last store, so what they guard is then as before or after that section.
 *
 * Letting go is one plain store.  Whether anybody sleeps is looked up after it without a fence, so a sleeper may be
 * missed; it sleeps for NAP at most, and the sections last some 20 ns, so that hardly ever happens and costs little.
 *
 * Ranks, outermost first; a thread takes guards only in growing order (asserted with -DTREADLE_DEBUG).
 */
#ifndef TREADLE_GUARD_H
#define TREADLE_GUARD_H

#include "board/self.h"

#include <assert.h>

enum tl_rank { TL_RANK_QUEUE = 1, TL_RANK_REGISTRY = 2, TL_RANK_ARENA = 3 };

struct tl_guard {
    _Atomic uint32_t word;
    _Atomic uint32_t sleepers; /* 1 if somebody may sleep; a hint, set anew before each sleep */
};

void tl_guard_wait(struct tl_guard *guard, uint32_t epoch);
void tl_guard_wake(struct tl_guard *guard);

static inline void tl_guard_enter(struct tl_guard *guard, enum tl_rank rank)
{
    uint32_t free_word = 0;
    uint32_t epoch = atomic_load_explicit(&tl_process.forks, memory_order_relaxed) << 1;
#ifdef TREADLE_DEBUG
    struct tl_self *self = tl_self_here;
    if (self != NULL) {
        assert(self->guard_rank < (uint32_t)rank);
        self->guard_rank = (uint32_t)rank;
    }
#else
    (void)rank;
#endif
    /* SYNC POINT: guard (acquire) */
    if (!atomic_compare_exchange_strong_explicit(&guard->word, &free_word, epoch | 1, memory_order_acquire,
                                                 memory_order_relaxed))
        tl_guard_wait(guard, epoch);
}

static inline void tl_guard_leave(struct tl_guard *guard)
{
#ifdef TREADLE_DEBUG
    if (tl_self_here != NULL)
        tl_self_here->guard_rank = 0;
#endif
    /* SYNC POINT: guard (release) */
    atomic_store_explicit(&guard->word, 0, memory_order_release);
    if (__builtin_expect(atomic_load_explicit(&guard->sleepers, memory_order_relaxed), 0))
        tl_guard_wake(guard);
}

#endif
