/* Finding and confirming a cycle; the argument is in cycle.h. */
#include "board/cycle.h"

static bool describe(uint32_t record, struct tl_member *member)
{
    struct tl_hot *hot = &tl_board.hot[record];
    member->record = record;
    member->state = atomic_load(&hot->state);
    if (TL_PHASE_OF(member->state) != TL_WAITING)
        return false;
    if (atomic_load_explicit(&hot->flags, memory_order_acquire) & TL_TIMED)
        return false;
    member->beat = atomic_load(&hot->beat);
    member->edge = atomic_load(&hot->edge);
    member->ticket = atomic_load_explicit(&hot->ticket, memory_order_acquire);
    return member->edge != 0;
}

/* Walk from this thread's wait along the edges.  The length of the cycle back to it, or 0. */
static uint32_t walk(struct tl_self *self, uint32_t record, struct tl_member *members)
{
    uint32_t length = 0, next = record;
    while (length < TL_CYCLE_MAX) {
        tl_token edge;
        if (!describe(next, &members[length]))
            return 0;
        edge = members[length].edge & TL_OWNER_MASK;
        length++;
        if (edge == self->token)
            return length;
        next = TL_RECORD_OF(edge);
        if (next == 0 || next >= TL_BOARD_RECORDS ||
            atomic_load(&tl_board.hot[next].generation) != TL_GENERATION_OF(edge))
            return 0; /* an owner that is gone is no deadlock */
    }
    return 0;
}

static bool same(const struct tl_cycle *old, const struct tl_member *members, uint32_t length)
{
    uint32_t i;
    if (old->length != length)
        return false;
    for (i = 0; i < length; i++)
        if (old->members[i].record != members[i].record || old->members[i].state != members[i].state ||
            old->members[i].edge != members[i].edge)
            return false;
    return true;
}

/* Make the others look again, and write down where they stand. */
static void poke_others(const struct tl_member *members, uint32_t length)
{
    uint32_t i;
    for (i = 1; i < length; i++) {
        atomic_store(&tl_board.hot[members[i].record].asked, 1);
        tl_poke(members[i].record);
    }
}

static bool told(const struct tl_member *member)
{
    return atomic_load(&tl_board.cold[member->record].text_state) == member->state;
}

enum tl_cycle_state tl_cycle_check(struct tl_self *self, uint32_t record, struct tl_cycle *cycle, bool patient)
{
    struct tl_member members[TL_CYCLE_MAX];
    uint32_t length = walk(self, record, members), i, youngest = 0;
    bool confirmed = true;

    if (length == 0) {
        cycle->length = 0;
        return TL_NO_CYCLE;
    }
    for (i = 1; i < length; i++)
        if (members[i].ticket > members[youngest].ticket)
            youngest = i;
    if (youngest != 0) {
        cycle->length = 0;
        tl_poke(members[youngest].record);
        return TL_CYCLE_NOT_MINE;
    }
    if (!same(cycle, members, length)) {
        cycle->length = length;
        for (i = 0; i < length; i++)
            cycle->members[i] = members[i];
        if (length > 1) {
            poke_others(members, length);
            return TL_CYCLE_MAYBE;
        }
        return TL_CYCLE_REAL; /* this thread waits for itself: it has just looked */
    }
    for (i = 1; i < length; i++)
        confirmed = confirmed && members[i].beat - cycle->members[i].beat >= 2 && (!patient || told(&members[i]));
    if (confirmed)
        return TL_CYCLE_REAL;
    poke_others(members, length);
    return TL_CYCLE_MAYBE;
}
