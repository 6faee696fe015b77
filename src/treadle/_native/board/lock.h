/* The lock: one word that is both its state and its owner.
 *
 *   0                          free
 *   TL_RESERVED | TL_WAITED    free, but only for a thread that has waited already (fairness)
 *   token [| flags]            owned;  TL_WAITED: somebody waits;  TL_BARE: taken by a bare acquire()
 *
 * Ownership only ever changes by the new owner's own compare-and-swap (or the old one's release), so there is no
 * moment at which a lock belongs to nobody who knows of it.  See README.md.
 */
#ifndef TREADLE_LOCK_H
#define TREADLE_LOCK_H

#include "board/park.h"

#define TL_WAITED ((uint64_t)1)
#define TL_BARE ((uint64_t)2)
#define TL_RESERVED ((uint64_t)4)

struct tl_lock {
    _Atomic uint64_t word;
    _Atomic uint32_t fair;  /* os_now() in ms when it was last reserved for a waiter */
    _Atomic uint32_t flags; /* TL_PRIVATE */
};

static inline bool tl_lock_try(struct tl_lock *lock, uint64_t owner)
{
    uint64_t none = 0;
    /* SYNC POINT: lock (acquire) */
    return atomic_compare_exchange_strong_explicit(&lock->word, &none, owner, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Like tl_lock_try, but also takes a lock that is reserved for a waiter. */
bool tl_lock_barge(struct tl_lock *lock, uint64_t owner);

uint64_t tl_lock_let_go(struct tl_lock *lock, uint64_t object, uint64_t word);

/* Release the lock.  What its word was, with the owner that it was taken from; without an owner, if it was free. */
static inline uint64_t tl_lock_give(struct tl_lock *lock, uint64_t object, struct tl_self *self)
{
    uint64_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
    while ((word & TL_OWNER_MASK) != 0) {
        if (__builtin_expect((word & TL_WAITED) != 0, 0)) {
            word = tl_lock_let_go(lock, object, word);
            break;
        }
        /* SYNC POINT: lock (release) */
        if (atomic_compare_exchange_strong_explicit(&lock->word, &word, 0, memory_order_release,
                                                    memory_order_relaxed))
            break;
    }
    if (__builtin_expect(self->owed_count > 0, 0))
        tl_pay(self);
    return word;
}

/* False if it was free. */
static inline bool tl_lock_release(struct tl_lock *lock, uint64_t object, struct tl_self *self)
{
    return (tl_lock_give(lock, object, self) & TL_OWNER_MASK) != 0;
}

/* One look of a waiter: take the lock if it is free (entitled: also if reserved), else make sure that its owner knows
 * that somebody waits.  bare: TL_BARE or 0.  *recovered is set if the lock was taken over from a dead process, which
 * is tried only for shared locks and only if `inspect` is set. */
bool tl_lock_look(struct tl_lock *lock, struct tl_self *self, uint64_t bare, bool entitled, bool inspect,
                  bool *recovered);
/* Take a lock in shared memory whose owner is dead; for those who can't wait. */
bool tl_lock_take_over(struct tl_lock *lock, uint64_t owner);
/* A waiter that was woken gives up: somebody else must hear of it. */
void tl_lock_pass_on(struct tl_lock *lock, uint64_t object);
/* The owner's token with the TL_BARE bit, or 0. For a private lock that this thread took before a fork: its token. */
tl_token tl_lock_edge(struct tl_lock *lock, struct tl_self *self);

#endif
