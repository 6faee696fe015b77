#include "board/guard.h"

#define NAP 1000000 /* nanoseconds */

void tl_guard_wait(struct tl_guard *guard, uint32_t epoch)
{
    int spins = tl_process.spins ? 64 : 0;
    for (;;) {
        uint32_t word = atomic_load_explicit(&guard->word, memory_order_relaxed);
        if (word == 0 || word != (epoch | 1)) {
            if (atomic_compare_exchange_weak_explicit(&guard->word, &word, epoch | 1, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
        } else if (spins > 0) {
            spins--;
            os_relax();
        } else {
            atomic_store_explicit(&guard->sleepers, 1, memory_order_relaxed);
            os_sleep_private(&guard->word, word, NAP);
        }
    }
}

void tl_guard_wake(struct tl_guard *guard)
{
    atomic_store_explicit(&guard->sleepers, 0, memory_order_relaxed);
    os_wake_private(&guard->word, INT32_MAX);
}
