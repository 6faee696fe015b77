/* A lock for what may take long, as waiting for room in a lane does: who waits for it sleeps, and lets go of the interpreter
 * before.  Taking it costs a compare-and-swap, letting go a plain store; the interpreter's own locks ask the clock besides.
 *
 * As with a guard (guard.h), whether anybody sleeps is looked up after letting go without a fence, so a sleeper may be missed:
 * it sleeps for LATCH_NAP at most.  A leaf: who holds one takes no other lock.  Of one process: a forked child must not use
 * those of its parent. */
#ifndef TREADLE_LATCH_H
#define TREADLE_LATCH_H

#include "python/state.h"

#define LATCH_NAP 1000000 /* ns */

typedef struct {
    _Atomic uint32_t word;     /* 0 free, 1 held */
    _Atomic uint32_t sleepers; /* 1 if somebody may sleep; a hint, set anew before each sleep */
} latch;

static inline bool latch_try(latch *self)
{
    uint32_t free_word = 0;
    /* SYNC POINT: latch (acquire) */
    return atomic_compare_exchange_strong_explicit(&self->word, &free_word, 1, memory_order_acquire, memory_order_relaxed);
}

/* Attached to the interpreter; it is detached while it waits. */
static inline void latch_enter(latch *self)
{
    if (latch_try(self))
        return;
    Py_BEGIN_ALLOW_THREADS
    do {
        atomic_store(&self->sleepers, 1);
        os_sleep_private(&self->word, 1, LATCH_NAP);
    } while (!latch_try(self));
    Py_END_ALLOW_THREADS
}

static inline void latch_leave(latch *self)
{
    /* SYNC POINT: latch (release) */
    atomic_store_explicit(&self->word, 0, memory_order_release);
    if (__builtin_expect(atomic_load_explicit(&self->sleepers, memory_order_relaxed), 0)) {
        atomic_store_explicit(&self->sleepers, 0, memory_order_relaxed); /* all of them are woken */
        os_wake_private(&self->word, INT32_MAX);
    }
}

#endif
