/* A lock of one word for what may take long, as waiting for room in a lane does: who waits for it sleeps, and lets go of
 * the interpreter before.  Taking it costs a compare-and-swap; the interpreter's own locks ask the clock besides.
 *
 * word: 0 free, 1 held, 2 held and somebody may sleep.  A leaf: who holds one takes no other lock.  Of one process: a
 * forked child must not use those of its parent. */
#ifndef TREADLE_LATCH_H
#define TREADLE_LATCH_H

#include "core.h"

typedef _Atomic uint32_t latch;

static inline bool latch_try(latch *word)
{
    uint32_t free_word = 0;
    /* SYNC POINT: latch (acquire) */
    return atomic_compare_exchange_strong_explicit(word, &free_word, 1, memory_order_acquire, memory_order_relaxed);
}

/* Attached to the interpreter; it is detached while it waits. */
static inline void latch_enter(latch *word)
{
    if (latch_try(word))
        return;
    Py_BEGIN_ALLOW_THREADS
    while (atomic_exchange_explicit(word, 2, memory_order_acquire) != 0)
        os_sleep_private(word, 2, -1);
    Py_END_ALLOW_THREADS
}

static inline void latch_leave(latch *word)
{
    /* SYNC POINT: latch (release) */
    if (atomic_exchange_explicit(word, 0, memory_order_release) == 2)
        os_wake_private(word, 1);
}

#endif
