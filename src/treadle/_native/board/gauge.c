/* Gauges; see gauge.h. */
#include "board/gauge.h"


_Static_assert(sizeof(struct tl_gauge) == 256, "gauges tile pages");
_Static_assert(TL_GAUGES * sizeof(struct tl_gauge) == TL_GAUGE_SIZE, "the board has room for them");

/* -- watching ------------------------------------------------------------------------------------------------------ */

uint64_t tl_watching(uint64_t now)
{
    struct tl_board_head *head = tl_board.head;
    uint64_t until = head == NULL ? 0 : atomic_load_explicit(&head->watch_until, memory_order_acquire);
    if (until == 0)
        return 0;
    if (now < until)
        return atomic_load_explicit(&head->watch_number, memory_order_relaxed);
    atomic_compare_exchange_strong(&head->watch_until, &until, 0); /* fails if somebody watches anew */
    return 0;
}

int tl_watch_board(struct tl_board *board, uint64_t ns)
{
    struct tl_board_head *head = board->head;
    uint64_t now = os_now(), until = atomic_load(&head->watch_until);
    /* Here and not by the program: it need not pay for memory that it never uses. */
    int error = os_memory_grow(board->fd, TL_GAUGE_OFFSET, TL_GAUGE_SIZE);
    if (error != 0)
        return error;
    if (until <= now) /* what was counted for somebody else, some time ago, does not go on */
        atomic_fetch_add(&head->watch_number, 1);
    while (until < now + ns && !atomic_compare_exchange_weak(&head->watch_until, &until, now + ns))
        ;
    return 0;
}

/* -- finding ------------------------------------------------------------------------------------------------------- */

static uint32_t pid_of(uint32_t flags) { return flags & TL_PRIVATE ? tl_process.pid : 0; }

static struct tl_gauge *gauge_at(uint64_t object, uint32_t pid, uint32_t probe)
{
    uint64_t hash = (object >> 3 ^ (uint64_t)pid << 40) * 0x9e3779b97f4a7c15u;
    return &tl_gauges(&tl_board)[((hash >> 32) + probe) % TL_GAUGES];
}

static bool is_of(const struct tl_gauge *gauge, uint64_t watch, uint64_t object, uint32_t pid)
{
    /* SYNC POINT: gauge */
    return atomic_load_explicit(&gauge->turn, memory_order_acquire) == watch << 1 &&
           atomic_load_explicit(&gauge->object, memory_order_relaxed) == object &&
           atomic_load_explicit(&gauge->pid, memory_order_relaxed) == pid;
}

struct tl_gauge *tl_gauge_find(uint64_t watch, uint64_t object, uint32_t flags)
{
    uint32_t probe, pid = pid_of(flags);
    for (probe = 0; probe < TL_GAUGE_PROBES; probe++) {
        struct tl_gauge *gauge = gauge_at(object, pid, probe);
        if (is_of(gauge, watch, object, pid))
            return gauge;
    }
    return NULL;
}

struct tl_gauge *tl_gauge_claim(uint64_t watch, uint64_t object, uint32_t flags, const char *name)
{
    struct tl_gauge *gauge = tl_gauge_find(watch, object, flags);
    uint32_t probe, pid = pid_of(flags);
    for (probe = 0; gauge == NULL && probe < TL_GAUGE_PROBES; probe++) {
        struct tl_gauge *place = gauge_at(object, pid, probe);
        uint64_t turn = atomic_load(&place->turn), mine = watch << 1 | 1;
        /* SYNC POINT: gauge */
        if (turn >> 1 >= watch || !atomic_compare_exchange_strong(&place->turn, &turn, mine))
            continue;
        atomic_store_explicit(&place->object, object, memory_order_relaxed);
        atomic_store_explicit(&place->pid, pid, memory_order_relaxed);
        atomic_store_explicit(&place->kind, flags >> TL_KIND_SHIFT, memory_order_relaxed);
        atomic_store_explicit(&place->puts, 0, memory_order_relaxed);
        atomic_store_explicit(&place->taken, 0, memory_order_relaxed);
        atomic_store_explicit(&place->maxsize, 0, memory_order_relaxed);
        atomic_store_explicit(&place->waits, 0, memory_order_relaxed);
        atomic_store_explicit(&place->waited, 0, memory_order_relaxed);
        atomic_store_explicit(&place->holds, 0, memory_order_relaxed);
        atomic_store_explicit(&place->held, 0, memory_order_relaxed);
        atomic_store_explicit(&place->began, 0, memory_order_relaxed);
        tl_text_store(place->name, TL_GAUGE_NAME, name);
        /* Two threads may make one each at the same time; from then on both use the first of them.  It fails if this one
         * slept for so long that the place is another watch's. */
        if (atomic_compare_exchange_strong(&place->turn, &mine, watch << 1))
            gauge = tl_gauge_find(watch, object, flags);
    }
    return gauge;
}

void tl_gauge_drop(uint64_t object, uint32_t flags)
{
    uint64_t watch = tl_watching(os_now()), turn = watch << 1;
    struct tl_gauge *gauge = watch == 0 ? NULL : tl_gauge_find(watch, object, flags);
    if (gauge != NULL)
        atomic_compare_exchange_strong(&gauge->turn, &turn, 0);
}

/* -- counting ------------------------------------------------------------------------------------------------------ */

void tl_gauge_waited(struct tl_gauge *gauge, uint64_t began, uint64_t now, bool holds)
{
    atomic_fetch_add_explicit(&gauge->waited, now - began, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauge->waits, 1, memory_order_relaxed);
    if (holds)
        atomic_store_explicit(&gauge->began, now, memory_order_relaxed);
}

void tl_gauge_held(uint64_t object, uint32_t flags, uint64_t now)
{
    uint64_t watch = tl_watching(now), began;
    struct tl_gauge *gauge = watch == 0 ? NULL : tl_gauge_find(watch, object, flags);
    if (gauge == NULL)
        return;
    began = atomic_exchange_explicit(&gauge->began, 0, memory_order_relaxed);
    if (began == 0 || began > now)
        return;
    atomic_fetch_add_explicit(&gauge->held, now - began, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauge->holds, 1, memory_order_relaxed);
}
