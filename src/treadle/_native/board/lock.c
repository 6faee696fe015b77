/* The lock's slow paths; see lock.h and README.md. */
#include "board/lock.h"
#include "board/gauge.h"
#include "system/points.h"

#define FAIR_MS 5u /* how often, at most, a lock is kept for those who wait; as long as the interpreter's switch interval */

bool tl_lock_barge(struct tl_lock *lock, uint64_t owner)
{
    uint64_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
    while ((word & TL_OWNER_MASK) == 0) {
        uint64_t taken = owner | (word != 0 ? TL_WAITED : 0);
        /* SYNC POINT: lock (acquire) */
        if (atomic_compare_exchange_strong_explicit(&lock->word, &word, taken, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}

static uint32_t flags_of(struct tl_lock *lock)
{
    return atomic_load_explicit(&lock->flags, memory_order_relaxed);
}

/* For whoever asks later from whom it came. */
static uint32_t pid_of(tl_token owner)
{
    uint32_t number = TL_RECORD_OF(owner), pid;
    if (number == 0 || number >= TL_BOARD_RECORDS)
        return 0;
    pid = atomic_load(&tl_board.hot[number].pid);
    return atomic_load(&tl_board.hot[number].generation) == TL_GENERATION_OF(owner) ? pid : 0; /* else it was swept */
}

uint64_t tl_lock_let_go(struct tl_lock *lock, uint64_t object, uint64_t word)
{
    uint64_t ns = os_now();
    uint32_t now = (uint32_t)(ns / 1000000u);
    bool fair = now - atomic_load_explicit(&lock->fair, memory_order_relaxed) >= FAIR_MS;
    uint64_t next = fair ? TL_RESERVED | TL_WAITED : 0, was;

    if (tl_watched()) /* while it is still this owner's */
        tl_gauge_held(object, flags_of(lock), ns);
    do {
        if ((word & TL_OWNER_MASK) == 0)
            return word; /* another thread has released it in the meantime */
        /* SYNC POINT: lock (release); also step (3) of parking: the mark goes before the waiters are looked up. */
    } while (!atomic_compare_exchange_strong(&lock->word, &word, next));
    was = word;
    TL_POINT("lock.release.freed");
    if (fair)
        atomic_store_explicit(&lock->fair, now, memory_order_relaxed);
    if (tl_notify(object, flags_of(lock) | TL_SLICED, 1, NULL).count == 0 && fair) {
        /* Reserved for nobody: whoever waited has left, and saw the lock owned when it did. */
        word = next;
        if (atomic_compare_exchange_strong(&lock->word, &word, 0))
            tl_notify(object, flags_of(lock) | TL_SLICED, 1, NULL);
    }
    return was;
}

bool tl_lock_look(struct tl_lock *lock, struct tl_self *self, uint64_t bare, bool entitled, bool inspect,
                  bool *recovered)
{
    uint64_t word = atomic_load(&lock->word);
    for (;;) {
        tl_token owner = word & TL_OWNER_MASK;
        if (owner == 0 && (entitled || !(word & TL_RESERVED))) {
            /* Others may wait as well, and rely on this thread to say so. SYNC POINT: lock (acquire) */
            if (atomic_compare_exchange_strong(&lock->word, &word, self->token | bare | TL_WAITED))
                return true;
            continue;
        }
        if (owner != 0 && inspect && !(flags_of(lock) & TL_PRIVATE) && !tl_token_alive(owner)) {
            self->robbed_pid = pid_of(owner);
            self->robbed = owner;
            /* SYNC POINT: recover. The dead owner's token is never alive again, so this can't rob anybody. */
            if (atomic_compare_exchange_strong(&lock->word, &word, self->token | bare | TL_WAITED)) {
                *recovered = true;
                TL_POINT("lock.recovered");
                return true;
            }
            continue;
        }
        if (word & TL_WAITED)
            return false;
        /* Step (2) of parking. */
        if (atomic_compare_exchange_strong(&lock->word, &word, word | TL_WAITED))
            return false;
    }
}

bool tl_lock_take_over(struct tl_lock *lock, uint64_t owner)
{
    uint64_t word = atomic_load(&lock->word);
    struct tl_self *self = tl_self_here;
    if (self != NULL) {
        self->robbed_pid = pid_of(word & TL_OWNER_MASK);
        self->robbed = word & TL_OWNER_MASK;
    }
    /* SYNC POINT: recover */
    return (word & TL_OWNER_MASK) != 0 && !tl_token_alive(word & TL_OWNER_MASK) &&
           atomic_compare_exchange_strong(&lock->word, &word, owner | (word & TL_WAITED));
}

void tl_lock_pass_on(struct tl_lock *lock, uint64_t object)
{
    uint64_t word = atomic_load(&lock->word);
    for (;;) {
        if ((word & TL_OWNER_MASK) != 0) {
            if ((word & TL_WAITED) || atomic_compare_exchange_strong(&lock->word, &word, word | TL_WAITED))
                return; /* the owner's release will wake the next one */
            continue;
        }
        if (word != 0 && !atomic_compare_exchange_strong(&lock->word, &word, 0))
            continue;
        tl_notify(object, flags_of(lock) | TL_SLICED, 1, NULL);
        return;
    }
}

tl_token tl_lock_edge(struct tl_lock *lock, struct tl_self *self)
{
    uint64_t word = atomic_load(&lock->word);
    if ((word & TL_OWNER_MASK) == 0)
        return 0;
    if ((flags_of(lock) & TL_PRIVATE) && tl_self_is(self, word))
        return self->token | (word & TL_BARE);
    return word & (TL_OWNER_MASK | TL_BARE);
}
