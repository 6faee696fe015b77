/* Parking; the protocol is in park.h and README.md. */
#include "board/park.h"

#define FRESH 20000000u /* ns: who began to wait within this time is taken to live, where a mistake does no harm */

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
    if (TL_FOR_DIAGNOSIS)
        atomic_store_explicit(&hot->since, os_now(), memory_order_release);
    if (flags & TL_HEIRS)
        atomic_store_explicit(&tl_board.cold[record].claimed, 0, memory_order_release);
    /* SYNC POINT: publish (store). Pairs with the load of state in tl_notify. */
    atomic_store(&hot->state, state);
    return state;
}

enum tl_phase tl_withdraw(uint32_t record, uint32_t state)
{
    struct tl_hot *hot = &tl_board.hot[record];
    uint32_t old;
    bool heirs = (atomic_load_explicit(&hot->flags, memory_order_relaxed) & TL_HEIRS) != 0, has;
    if (heirs) { /* first: from here on it is `debt` that tells of a claim */
        has = atomic_load_explicit(&tl_board.cold[record].debt, memory_order_relaxed) != 0; /* it has inherited */
        atomic_store(&tl_board.cold[record].debt, atomic_load_explicit(&hot->object, memory_order_relaxed));
    }
    /* SYNC POINT: claim. A claimer's exchange comes before this one, which then tells of it, or it fails. */
    old = atomic_exchange(&hot->state, (state & ~7u) | TL_IDLE);
    if (heirs && !has && TL_PHASE_OF(old) != TL_NOTIFIED)
        atomic_store(&tl_board.cold[record].debt, 0);
    atomic_store_explicit(&hot->edge, 0, memory_order_release);
    return (enum tl_phase)TL_PHASE_OF(old);
}

void tl_returned(uint32_t record)
{
    atomic_store(&tl_board.cold[record].debt, 0);
}

/* Twice what a sleep and a wake-up cost: who spins must see the answer of somebody who slept, or two threads that take turns
 * would never both come to spin. */
#define SPIN_NS 50000u
#define SPIN_CREDIT 8
#define SPIN_SELDOM 16u    /* without credit, every so many waits are tried */

/* Threads that answer each other quickly spend most of their time on falling asleep and being woken.  So a waiter looks
 * for a moment first, for as long as that pays: a spin in vain takes credit from this thread's next ones. */
bool tl_spin(struct tl_self *self, bool (*over)(void *), void *what)
{
    uint64_t end = 0;
    int i;
    if (!tl_process.several)
        return false;
    /* On the same processor it could not answer while this thread spins. */
    if (self->partner != 0 && atomic_load_explicit(&tl_board.hot[self->partner].asleep, memory_order_relaxed) >> 1 == os_cpu())
        return false;
    if (self->spin_credit <= 0 && ++self->spin_skipped % SPIN_SELDOM != 0)
        return false;
    for (;;) {
        for (i = 0; i < 16; i++) {
            if (over(what)) {
                if (self->spin_credit < SPIN_CREDIT)
                    self->spin_credit++;
                return true;
            }
            os_relax();
        }
        if (end == 0)
            end = os_now() + SPIN_NS;
        else if (os_now() >= end)
            break;
    }
    if (self->spin_credit > 0)
        self->spin_credit--;
    return false;
}

struct parked {
    struct tl_hot *hot;
    uint32_t state;
};

static bool has_moved(void *what)
{
    struct parked *parked = what;
    return atomic_load_explicit(&parked->hot->state, memory_order_relaxed) != parked->state;
}

enum os_wake tl_park(struct tl_self *self, uint32_t record, uint32_t state, int64_t ns, bool spin_first)
{
    struct tl_hot *hot = &tl_board.hot[record];
    enum os_wake why;
    struct parked parked = {hot, state};
    if (spin_first && tl_spin(self, has_moved, &parked))
        return OS_WOKEN;
    /* SYNC POINT: park. This store, then the kernel's look at the state; the waker changes the state, then looks here:
     * either it sees that it must wake, or the kernel sees the change and does not sleep. */
    atomic_store(&hot->parked, 1);
    why = os_sleep(&hot->state, state, ns);
    atomic_store_explicit(&hot->parked, 0, memory_order_relaxed);
    return why;
}

/* After its state was changed: whether somebody was there to be woken. SYNC POINT: park */
static bool wake(struct tl_hot *hot)
{
    return atomic_load(&hot->parked) && os_wake(&hot->state, 1) > 0;
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
    bool heirs;
    uint64_t ticket;
};

/* Is an episode on object published in the record?  If so, describe it. */
static bool waits_for(uint32_t number, uint64_t object, uint32_t flags, struct candidate *seen)
{
    struct tl_hot *hot = &tl_board.hot[number];
    /* SYNC POINT: publish (load) */
    uint32_t state = atomic_load(&hot->state), its;
    if (TL_PHASE_OF(state) != TL_WAITING && TL_PHASE_OF(state) != TL_INTERRUPTED)
        return false;
    if (atomic_load_explicit(&hot->object, memory_order_acquire) != object)
        return false;
    seen->pid = atomic_load_explicit(&hot->pid, memory_order_acquire);
    if ((flags & TL_PRIVATE) && seen->pid != tl_process.pid)
        return false;
    its = atomic_load_explicit(&hot->flags, memory_order_acquire);
    if (((its ^ flags) & TL_PRIVATE) != 0)
        return false;
    seen->heirs = (its & TL_HEIRS) != 0;
    seen->number = number;
    seen->state = state;
    seen->ticket = atomic_load_explicit(&hot->ticket, memory_order_acquire);
    return true;
}

/* False if it waits no more, or is dead.  That it lives is seen best by waking it: to ask the system for a process costs
 * more than all the rest.  A claim on a dead waiter does no harm, since it will never wait again.  Waits that began after
 * `fresh` are taken to live. */
static bool claim(const struct candidate *who, struct tl_self *owed, uint64_t fresh)
{
    struct tl_hot *hot = &tl_board.hot[who->number];
    uint32_t expected = who->state, notified = (who->state & ~7u) | TL_NOTIFIED;
    bool lives = who->pid == tl_process.pid || atomic_load_explicit(&hot->since, memory_order_relaxed) >= fresh;
    if (who->heirs) /* before it is claimed: who comes later has a higher ticket, who waits now a lower one */
        atomic_store(&tl_board.cold[who->number].claimed, atomic_load(&tl_board.head->ticket));
    /* SYNC POINT: claim. The episode in state proves that object and ticket were this wait's. */
    if (!atomic_compare_exchange_strong(&hot->state, &expected, notified))
        return false;
    if (who->pid == tl_process.pid && tl_self_here != NULL)
        atomic_store_explicit(&hot->waker, tl_self_here->records[0], memory_order_relaxed);
    if (owed != NULL && owed->owed_count < TL_OWED) { /* woken later: then it has to be asked */
        owed->owed[owed->owed_count].record = who->number;
        owed->owed[owed->owed_count].state = notified;
        owed->owed_count++;
        return lives || !dead(who->number, who->pid);
    }
    return wake(hot) || lives || !dead(who->number, who->pid);
}

void tl_pay(struct tl_self *self)
{
    while (self->owed_count > 0) {
        struct tl_owed *owed = &self->owed[--self->owed_count];
        if (atomic_load(&tl_board.hot[owed->record].state) == owed->state)
            wake(&tl_board.hot[owed->record]);
    }
}

struct tl_woken tl_notify(uint64_t object, uint32_t flags, int64_t n, struct tl_self *owed)
{
    struct tl_woken woken = {0, 0};
    uint32_t high = atomic_load(&tl_board.head->high), number;
    uint64_t fresh = UINT64_MAX;

    if (n < 0)
        fresh = 0; /* nobody is passed over: the dead do no harm */
    else if ((flags & (TL_SLICED | TL_PRIVATE)) == TL_SLICED)
        fresh = os_now() - FRESH;
    if (n < 0) {
        for (number = 1; number < high; number++) {
            struct candidate seen;
            if (waits_for(number, object, flags, &seen) && claim(&seen, owed, fresh))
                woken.count++;
        }
        return woken;
    }
    while ((int64_t)woken.count < n) {
        struct candidate best = {.ticket = UINT64_MAX}, seen;
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
        if (claim(&best, owed, fresh)) {
            woken.count++;
            woken.left--;
        }
    }
    return woken;
}

/* Two heirs of one dead waiter may both find what it has left in one of its two places (NOTIFIED, debt), if it died just
 * between the two stores: then one of them wakes without need, which a condition allows.  That none does is what counts. */
static bool take_legacy(uint32_t number, uint64_t object, uint64_t claimed, uint32_t heir)
{
    uint32_t state;
    if (tl_legacy(number, &state) != object)
        return false;
    /* SYNC POINT: inherit. This one's own debt first: if it dies as well, the next one inherits from it. */
    atomic_store(&tl_board.cold[heir].claimed, claimed);
    atomic_store(&tl_board.cold[heir].debt, object);
    if (TL_PHASE_OF(state) == TL_NOTIFIED) {
        if (atomic_compare_exchange_strong(&tl_board.hot[number].state, &state, (state & ~7u) | TL_IDLE)) {
            atomic_store(&tl_board.cold[number].debt, 0);
            return true;
        }
    } else if (atomic_compare_exchange_strong(&tl_board.cold[number].debt, &object, 0)) {
        return true;
    }
    atomic_store(&tl_board.cold[heir].debt, 0);
    return false;
}

bool tl_inherit(uint32_t record, uint64_t object, uint64_t ticket)
{
    uint32_t number, state, high = atomic_load(&tl_board.head->high);
    for (number = 1; number < high; number++) {
        uint32_t pid = atomic_load_explicit(&tl_board.hot[number].pid, memory_order_acquire);
        uint64_t claimed;
        if (pid == 0 || pid == tl_process.pid || tl_legacy(number, &state) != object)
            continue;
        claimed = atomic_load(&tl_board.cold[number].claimed);
        if (ticket < claimed && dead(number, pid) && take_legacy(number, object, claimed, record))
            return true;
    }
    return false;
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
