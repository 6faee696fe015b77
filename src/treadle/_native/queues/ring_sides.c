/* The two sides of a queue between processes: their locks, and who waits at them for items, room, or the end of the work. */
#include "queues/ring_object.h"
#include "python/text.h"
#include "system/points.h"

#include <stdio.h>
#include <string.h>

#define MS ((uint64_t)1000000)
#define SPINS 60                 /* looks at a lock that is held, before sleeping: it is held for some 100 ns */
#define LOCK_PATIENCE (1000 * MS) /* how long a call that shall not block waits for a side's lock */
#define SPIN_NS 20000u  /* how long to look before sleeping, where that pays: to sleep and be woken costs about as much */
#define SPIN_LEAST 500u

/* -- locks -------------------------------------------------------------------------------------------------------------- */

struct side_wait {
    struct wait wait;
    PyObject *queue;
    struct ring *ring;
    enum side side;
    bool recovered;
};

static bool lock_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct side_wait *w = (struct side_wait *)wait;
    return tl_lock_look(&shared_queue_side(w->ring, w->side)->lock, me, 0, entitled, inspect, &w->recovered);
}

static tl_token lock_edge(struct wait *wait, struct tl_self *me)
{
    struct side_wait *w = (struct side_wait *)wait;
    return tl_lock_edge(&shared_queue_side(w->ring, w->side)->lock, me);
}

static void lock_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct side_wait *w = (struct side_wait *)wait;
    (void)me;
    if (claimed)
        tl_lock_pass_on(&shared_queue_side(w->ring, w->side)->lock, shared_queue_lock_id(w->ring, w->side));
}

/* With the place where the queue was made, in whatever process that was. */
static void describe(const struct ring *ring, const char *what, char *text, size_t size)
{
    char place[RING_PLACE];
    tl_text_load(ring->head->place, RING_PLACE, place);
    snprintf(text, size, "%s (made at %s)", what, place[0] == 0 ? "?" : place);
}

static void lock_text(struct wait *wait, char *text, size_t size)
{
    struct side_wait *w = (struct side_wait *)wait;
    describe(w->ring, w->side == PUT ? "a turn to put into a shared Queue" : "a turn to get from a shared Queue", text,
             size);
}

static void repair(struct ring *ring, enum side side)
{
    if (side == PUT)
        ring_repair_put(ring);
    else
        ring_repair_get(ring);
}

enum wait_result shared_queue_lock_side(PyObject *op, struct ring *ring, enum side side, struct tl_self *me, int64_t timeout)
{
    struct tl_lock *lock = &shared_queue_side(ring, side)->lock;
    struct side_wait w;
    enum wait_result result;
    uint32_t spins;
    for (spins = 0; spins < (tl_process.several ? SPINS : 1); spins++) {
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && tl_lock_try(lock, me->token))
            return WAIT_GOT;
        os_relax();
    }
    memset(&w, 0, sizeof w);
    w.wait.object = shared_queue_lock_id(ring, side);
    w.wait.flags = TL_LOCK << TL_KIND_SHIFT;
    w.wait.look = lock_look;
    w.wait.edge = lock_edge;
    w.wait.leave = lock_leave;
    w.wait.describe = lock_text;
    w.queue = op;
    w.ring = ring;
    w.side = side;
    result = core_wait(core_state_of(op), &w.wait,
                       timeout < 0 ? -1 : timeout < (int64_t)LOCK_PATIENCE ? (int64_t)LOCK_PATIENCE : timeout);
    if (result == WAIT_GOT && w.recovered)
        repair(ring, side);
    return result;
}

/* -- waiting ------------------------------------------------------------------------------------------------------------ */

static const enum ring_object mark_objects[] = {RING_WAIT_GET, RING_WAIT_PUT, RING_WAIT_JOIN};
static const uint32_t mark_kinds[] = {TL_QUEUE_GET, TL_QUEUE_PUT, TL_QUEUE_JOIN};

void shared_queue_wake_marked(struct ring *ring, enum ring_mark mark, int64_t n)
{
    uint64_t object = ring_object(ring, mark_objects[mark]);
    TL_POINT("ring.wake");
    if (tl_notify(object, 0, n, NULL).left > 0)
        return;
    atomic_store(&ring->head->marks[mark], 0);
    TL_POINT("ring.wake.unmarked");
    if (tl_waiters(object, 0) > 0) {
        atomic_store(&ring->head->marks[mark], 1);
        if (shared_queue_ready(ring, mark))
            tl_notify(object, 0, n, NULL);
    }
}

struct shared_wait {
    struct wait wait;
    struct shared_queue *queue;
    enum ring_mark mark;
    uint32_t looks;
};

void shared_queue_sweep(struct shared_queue *self, struct tl_self *me)
{
    struct ring *ring = &self->ring;
    uint32_t back;
    atomic_store_explicit(&self->swept, os_now(), memory_order_relaxed);
    if (!tl_lock_barge(&ring->head->get.lock, me->token))
        return;
    back = cells_sweep(ring);
    shared_queue_unlock_side(ring, GET, me);
    if (back > 0) {
        shared_queue_wake(ring, RING_GETTERS, back);
        shared_queue_wake(ring, RING_JOINERS, -1); /* one of them may have become a dead letter */
    }
}

static bool shared_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct shared_wait *w = (struct shared_wait *)wait;
    struct ring_head *head = w->queue->ring.head;
    (void)entitled;
    if (shared_queue_ready(&w->queue->ring, w->mark))
        return true;
    if (inspect && (atomic_load(&head->held) > 0 || (++w->looks % 16 == 0 && atomic_load(&head->cells) > 0)))
        shared_queue_sweep(w->queue, me);
    if (inspect)
        cells_trim(&w->queue->ring, me->token, false);
    atomic_store(&head->marks[w->mark], 1);
    TL_POINT("ring.wait.marked");
    return shared_queue_ready(&w->queue->ring, w->mark);
}

static void shared_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct shared_wait *w = (struct shared_wait *)wait;
    (void)me;
    if (claimed && shared_queue_ready(&w->queue->ring, w->mark))
        shared_queue_wake_marked(&w->queue->ring, w->mark, 1);
}

static void shared_text(struct wait *wait, char *text, size_t size)
{
    static const char *const what[] = {"an item of a shared Queue", "room in a shared Queue", "join() of a shared Queue"};
    struct shared_wait *w = (struct shared_wait *)wait;
    describe(&w->queue->ring, what[w->mark], text, size);
}

/* Look for a moment before going to sleep: the other side is often just about to come.  How long follows from how often
 * it was worth it; now and then it is tried anew.  Without the interpreter, so that other threads go on. */
static bool spin(struct shared_queue *self, enum ring_mark mark)
{
    uint32_t budget = atomic_load_explicit(&self->spin, memory_order_relaxed), i;
    PyThreadState *detached;
    uint64_t until;
    bool now = false;
    if (!tl_process.several)
        return false;
    if ((atomic_fetch_add_explicit(&self->waits, 1, memory_order_relaxed) & 31) == 0 || budget > SPIN_NS)
        budget = SPIN_NS;
    detached = PyEval_SaveThread();
    until = os_now() + budget;
    do {
        for (i = 0; i < 16 && !now; i++) {
            os_relax();
            now = shared_queue_ready(&self->ring, mark);
        }
    } while (!now && os_now() < until);
    PyEval_RestoreThread(detached);
    budget = now ? budget * 2 : budget / 2;
    atomic_store_explicit(&self->spin, budget < SPIN_LEAST ? SPIN_LEAST : budget, memory_order_relaxed);
    return now;
}

enum wait_result shared_queue_wait(struct shared_queue *self, enum ring_mark mark, int64_t timeout)
{
    struct shared_wait w;
    if (mark != RING_JOINERS && spin(self, mark))
        return WAIT_GOT;
    memset(&w, 0, sizeof w);
    w.wait.object = ring_object(&self->ring, mark_objects[mark]);
    w.wait.flags = mark_kinds[mark] << TL_KIND_SHIFT;
    w.wait.claim_is_success = true;
    w.wait.spun = true;
    w.wait.look = shared_look;
    w.wait.leave = shared_leave;
    w.wait.describe = shared_text;
    w.queue = self;
    w.mark = mark;
    return core_wait(core_state_of((PyObject *)self), &w.wait, timeout);
}

int64_t limit_left(struct limit *limit)
{
    uint64_t now;
    if (limit->timeout <= 0)
        return limit->timeout;
    now = os_now();
    if (limit->deadline == 0)
        limit->deadline = limit->timeout > (int64_t)1 << 62 ? UINT64_MAX : now + (uint64_t)limit->timeout;
    return now >= limit->deadline ? 0 : (int64_t)(limit->deadline - now);
}
