/* Parking; the protocol is in park.h and README.md. */
#include "park.h"

uint64_t tl_ticket(void)
{
    return atomic_fetch_add_explicit(&tl_board.head->ticket, 1, memory_order_relaxed);
}

uint32_t tl_publish(uint32_t record, uint64_t object, uint32_t flags, uint64_t ticket)
{
    struct tl_hot *hot = &tl_board.hot[record];
    uint32_t state = ((atomic_load_explicit(&hot->state, memory_order_relaxed) >> 3) + 1) << 3 | TL_WAITING;
    /* Each of these comes after the store that ended the last episode, also for others: hence the releases. */
    atomic_store_explicit(&hot->object, object, memory_order_release);
    atomic_store_explicit(&hot->ticket, ticket, memory_order_release);
    atomic_store_explicit(&hot->flags, flags, memory_order_release);
    atomic_store_explicit(&hot->edge, 0, memory_order_release);
    atomic_store_explicit(&hot->since, os_now(), memory_order_release);
    /* SYNC POINT: publish (store). Pairs with the load of state in tl_notify. */
    atomic_store(&hot->state, state);
    return state;
}

enum tl_phase tl_withdraw(uint32_t record, uint32_t state)
{
    struct tl_hot *hot = &tl_board.hot[record];
    /* SYNC POINT: claim. A claimer's exchange comes before this one, which then tells of it, or it fails. */
    uint32_t old = atomic_exchange(&hot->state, (state & ~7u) | TL_IDLE);
    atomic_store_explicit(&hot->edge, 0, memory_order_release);
    return (enum tl_phase)TL_PHASE_OF(old);
}

enum os_wake tl_park(uint32_t record, uint32_t state, int64_t ns)
{
    return os_sleep(&tl_board.hot[record].state, state, ns);
}

void tl_poke(uint32_t record)
{
    os_wake(&tl_board.hot[record].state, 1);
}

static bool dead(uint32_t number, uint32_t pid)
{
    return pid != tl_process.pid && !os_process_alive(pid, atomic_load(&tl_board.cold[number].start));
}

struct candidate {
    uint32_t number, state, pid;
    uint64_t ticket;
};

/* Is an episode on object published in the record?  If so, describe it. */
static bool waits_for(uint32_t number, uint64_t object, uint32_t flags, struct candidate *seen)
{
    struct tl_hot *hot = &tl_board.hot[number];
    /* SYNC POINT: publish (load) */
    uint32_t state = atomic_load(&hot->state);
    if (TL_PHASE_OF(state) != TL_WAITING && TL_PHASE_OF(state) != TL_INTERRUPTED)
        return false;
    if (atomic_load_explicit(&hot->object, memory_order_acquire) != object)
        return false;
    seen->pid = atomic_load_explicit(&hot->pid, memory_order_acquire);
    if ((flags & TL_PRIVATE) && seen->pid != tl_process.pid)
        return false;
    if (((atomic_load_explicit(&hot->flags, memory_order_acquire) ^ flags) & TL_PRIVATE) != 0)
        return false;
    seen->number = number;
    seen->state = state;
    seen->ticket = atomic_load_explicit(&hot->ticket, memory_order_acquire);
    return true;
}

static bool claim(const struct candidate *who, struct tl_self *owed)
{
    struct tl_hot *hot = &tl_board.hot[who->number];
    uint32_t expected = who->state, notified = (who->state & ~7u) | TL_NOTIFIED;
    /* SYNC POINT: claim. The episode in state proves that object and ticket were this wait's. */
    if (!atomic_compare_exchange_strong(&hot->state, &expected, notified))
        return false;
    if (owed != NULL && owed->owed_count < TL_OWED) {
        owed->owed[owed->owed_count].record = who->number;
        owed->owed[owed->owed_count].state = notified;
        owed->owed_count++;
    } else {
        os_wake(&hot->state, 1);
    }
    return true;
}

void tl_pay(struct tl_self *self)
{
    while (self->owed_count > 0) {
        struct tl_owed *owed = &self->owed[--self->owed_count];
        if (atomic_load(&tl_board.hot[owed->record].state) == owed->state)
            os_wake(&tl_board.hot[owed->record].state, 1);
    }
}

struct tl_woken tl_notify(uint64_t object, uint32_t flags, int64_t n, struct tl_self *owed)
{
    struct tl_woken woken = {0, 0};
    uint32_t high = atomic_load(&tl_board.head->high), number;

    if (n < 0) {
        for (number = 1; number < high; number++) {
            struct candidate seen;
            if (waits_for(number, object, flags, &seen) && !dead(number, seen.pid) && claim(&seen, owed))
                woken.count++;
        }
        return woken;
    }
    while ((int64_t)woken.count < n) {
        struct candidate best = {0, 0, 0, UINT64_MAX}, seen;
        woken.left = 0;
        for (number = 1; number < high; number++) {
            if (!waits_for(number, object, flags, &seen))
                continue;
            woken.left++;
            if (seen.ticket < best.ticket)
                best = seen;
        }
        if (best.number == 0)
            return woken;
        if (dead(best.number, best.pid)) {
            /* It will never run again: take its episode off the board, and look for the next one. */
            uint32_t state = best.state;
            atomic_compare_exchange_strong(&tl_board.hot[best.number].state, &state, (best.state & ~7u) | TL_IDLE);
            continue;
        }
        if (claim(&best, owed)) {
            woken.count++;
            woken.left--;
        }
    }
    return woken;
}

uint32_t tl_waiters(uint64_t object, uint32_t flags)
{
    struct candidate seen;
    uint32_t count = 0, number, high = atomic_load(&tl_board.head->high);
    for (number = 1; number < high; number++)
        if (waits_for(number, object, flags, &seen))
            count++;
    return count;
}
