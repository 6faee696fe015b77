#include "guard.h"

void tl_guard_wait(struct tl_guard *guard, uint32_t epoch)
{
    int spins = tl_process.spins ? 64 : 0;
    for (;;) {
        uint32_t word = atomic_load_explicit(&guard->word, memory_order_relaxed);
        if (word == 0 || (word & ~3u) != epoch) {
            if (atomic_compare_exchange_weak_explicit(&guard->word, &word, epoch | 2, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
            continue;
        }
        if (spins > 0) {
            spins--;
            os_relax();
            continue;
        }
        if ((word & 3) == 2 ||
            atomic_compare_exchange_weak_explicit(&guard->word, &word, epoch | 2, memory_order_relaxed,
                                                  memory_order_relaxed))
            os_sleep_private(&guard->word, epoch | 2, 100000000);
    }
}
