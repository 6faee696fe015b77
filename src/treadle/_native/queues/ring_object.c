/* SharedQueue: values, between processes, on a ring; and the receipts for what was taken from it.
 *
 * Waiting for items or room is as with every primitive: publish the wait, mark the side as waited for, look again; who
 * changes the ring looks at the mark, then through the board.  Producers and consumers hold their side's lock for a
 * copy of a small message only, never while they wait or run Python code.
 */
#include "python/arguments.h"
#include "python/open_object.h"
#include "sync/lock_object.h"
#include "values/parcel.h"
#include "queues/common.h"
#include "queues/queues.h"
#include "system/points.h"

#include <errno.h>
#include <string.h>

#define MS ((uint64_t)1000000)
#define SPINS 60                 /* looks at a lock that is held, before sleeping: it is held for some 100 ns */
#define LOCK_PATIENCE (1000 * MS) /* how long a call that shall not block waits for a side's lock */
#define SWEEP_EVERY (40 * MS)
#define LARGE (1u << 20)
#define SPIN_NS 20000u  /* how long to look before sleeping, where that pays: to sleep and be woken costs about as much */
#define SPIN_LEAST 500u

struct shared_object {
    OPEN_OBJECT_HEAD
    struct ring ring;
    bool made;              /* ring is there */
    _Atomic bool closed;    /* close() was called on this object */
    _Atomic bool used;      /* something was put through this object */
    _Atomic uint32_t spin;  /* how long it pays to look before sleeping, in ns, as of late */
    _Atomic uint32_t waits;
    _Atomic uint64_t swept; /* os_now() when this process last looked for dead owners */
};

/* The ring, or NULL with an exception. */
static struct ring *ring_of(PyObject *op)
{
    struct shared_object *self = (struct shared_object *)op;
    if (!self->made) {
        PyErr_SetString(PyExc_ValueError, "this queue was never set up: its class's __init__ was not called");
        return NULL;
    }
    if (atomic_load_explicit(&self->closed, memory_order_relaxed)) {
        PyErr_Format(PyExc_ValueError, "Queue %R is closed", op);
        return NULL;
    }
    return &self->ring;
}

/* -- the sides' locks ------------------------------------------------------------------------------------------------ */

enum side { PUT, GET };

static struct ring_side *side_of(struct ring *ring, enum side side)
{
    return side == PUT ? &ring->head->put : &ring->head->get;
}

static uint64_t lock_object_id(struct ring *ring, enum side side)
{
    return ring_object(ring, side == PUT ? RING_PUT_LOCK : RING_GET_LOCK);
}

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
    return tl_lock_look(&side_of(w->ring, w->side)->lock, me, 0, entitled, inspect, &w->recovered);
}

static tl_token lock_edge(struct wait *wait, struct tl_self *me)
{
    struct side_wait *w = (struct side_wait *)wait;
    return tl_lock_edge(&side_of(w->ring, w->side)->lock, me);
}

static void lock_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct side_wait *w = (struct side_wait *)wait;
    (void)me;
    if (claimed)
        tl_lock_pass_on(&side_of(w->ring, w->side)->lock, lock_object_id(w->ring, w->side));
}

static void lock_text(struct wait *wait, char *text, size_t size)
{
    struct side_wait *w = (struct side_wait *)wait;
    open_describe(w->queue, w->side == PUT ? "a turn to put into a shared Queue" : "a turn to get from a shared Queue",
                  text, size);
}

static void repair(struct ring *ring, enum side side)
{
    if (side == PUT)
        ring_repair_put(ring);
    else
        ring_repair_get(ring);
}

/* Take the side's lock.  WAIT_TIMEOUT only if its holder is stopped: it is held for moments. */
static enum wait_result lock_side(PyObject *op, struct ring *ring, enum side side, struct tl_self *me, int64_t timeout)
{
    struct tl_lock *lock = &side_of(ring, side)->lock;
    struct side_wait w;
    enum wait_result result;
    uint32_t spins;
    for (spins = 0; spins < (tl_process.several ? SPINS : 1); spins++) {
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && tl_lock_try(lock, me->token))
            return WAIT_GOT;
        os_relax();
    }
    memset(&w, 0, sizeof w);
    w.wait.object = lock_object_id(ring, side);
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

static void unlock_side(struct ring *ring, enum side side, struct tl_self *me)
{
    tl_lock_release(&side_of(ring, side)->lock, lock_object_id(ring, side), me);
}

/* -- waiting for items, room, and the end of the work ----------------------------------------------------------------- */

static const enum ring_object mark_objects[] = {RING_WAIT_GET, RING_WAIT_PUT, RING_WAIT_JOIN};
static const uint32_t mark_kinds[] = {TL_QUEUE_GET, TL_QUEUE_PUT, TL_QUEUE_JOIN};

/* How many messages task_done() is to be called for. */
static uint64_t tasks(struct ring *ring)
{
    struct ring_head *head = ring->head;
    return atomic_load(&head->state) == RING_DROPPED ? atomic_load(&head->frozen) : ring_count(&head->put);
}

static uint64_t unfinished(struct ring *ring)
{
    uint64_t done = atomic_load(&ring->head->done), all = tasks(ring);
    return all > done ? all - done : 0;
}

static bool ready(struct ring *ring, enum ring_mark mark)
{
    enum ring_state state = atomic_load(&ring->head->state);
    if (mark == RING_JOINERS)
        return unfinished(ring) == 0;
    if (state != RING_OPEN)
        return true;
    return mark == RING_GETTERS ? !ring_log_empty(ring) || atomic_load(&ring->head->returned) : !ring_full(ring);
}

/* Wake n who wait (n < 0: all).  The mark stays while somebody is left; after it was taken off, the board is looked
 * through once more, for one that published before and marked too early. */
static void wake_marked(struct ring *ring, enum ring_mark mark, int64_t n)
{
    uint64_t object = ring_object(ring, mark_objects[mark]);
    TL_POINT("ring.wake");
    if (tl_notify(object, 0, n, NULL).left > 0)
        return;
    atomic_store(&ring->head->marks[mark], 0);
    TL_POINT("ring.wake.unmarked");
    if (tl_waiters(object, 0) > 0) {
        atomic_store(&ring->head->marks[mark], 1);
        if (ready(ring, mark))
            tl_notify(object, 0, n, NULL);
    }
}

static inline void wake(struct ring *ring, enum ring_mark mark, int64_t n)
{
    /* What changed was stored sequentially consistent: either this sees the mark, or who marks sees the change. */
    if (__builtin_expect(atomic_load(&ring->head->marks[mark]) != 0, 0))
        wake_marked(ring, mark, n);
}

struct shared_wait {
    struct wait wait;
    struct shared_object *queue;
    enum ring_mark mark;
    uint32_t looks;
};

/* Dead takers' messages come back; dead readers' memory too.  Only if the lock is free: else whoever has it is alive,
 * or the next look finds out. */
static void sweep(struct shared_object *self, struct tl_self *me)
{
    struct ring *ring = &self->ring;
    uint32_t back;
    atomic_store_explicit(&self->swept, os_now(), memory_order_relaxed);
    if (!tl_lock_barge(&ring->head->get.lock, me->token))
        return;
    back = cells_sweep(ring);
    unlock_side(ring, GET, me);
    if (back > 0) {
        wake(ring, RING_GETTERS, back);
        wake(ring, RING_JOINERS, -1); /* one of them may have become a dead letter */
    }
}

static bool shared_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct shared_wait *w = (struct shared_wait *)wait;
    struct ring_head *head = w->queue->ring.head;
    (void)entitled;
    if (ready(&w->queue->ring, w->mark))
        return true;
    if (inspect && (atomic_load(&head->held) > 0 || (++w->looks % 16 == 0 && atomic_load(&head->cells) > 0)))
        sweep(w->queue, me);
    if (inspect)
        cells_trim(&w->queue->ring, me->token, false);
    atomic_store(&head->marks[w->mark], 1);
    TL_POINT("ring.wait.marked");
    return ready(&w->queue->ring, w->mark);
}

static void shared_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct shared_wait *w = (struct shared_wait *)wait;
    (void)me;
    if (claimed && ready(&w->queue->ring, w->mark))
        wake_marked(&w->queue->ring, w->mark, 1);
}

static void shared_text(struct wait *wait, char *text, size_t size)
{
    static const char *const what[] = {"an item of a shared Queue", "room in a shared Queue", "join() of a shared Queue"};
    struct shared_wait *w = (struct shared_wait *)wait;
    open_describe((PyObject *)w->queue, what[w->mark], text, size);
}

/* Look for a moment before going to sleep: the other side is often just about to come.  How long follows from how often
 * it was worth it; now and then it is tried anew.  Without the interpreter, so that other threads go on. */
static bool spin(struct shared_object *self, enum ring_mark mark)
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
            now = ready(&self->ring, mark);
        }
    } while (!now && os_now() < until);
    PyEval_RestoreThread(detached);
    budget = now ? budget * 2 : budget / 2;
    atomic_store_explicit(&self->spin, budget < SPIN_LEAST ? SPIN_LEAST : budget, memory_order_relaxed);
    return now;
}

/* Wait until that side may be able to go on. */
static enum wait_result wait_for(struct shared_object *self, enum ring_mark mark, int64_t timeout)
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

/* What is left of a time-out: -1 forever, 0 no more. */
struct limit {
    int64_t timeout;
    uint64_t deadline;
};

static int64_t left_of(struct limit *limit)
{
    uint64_t now;
    if (limit->timeout <= 0)
        return limit->timeout;
    now = os_now();
    if (limit->deadline == 0)
        limit->deadline = limit->timeout > (int64_t)1 << 62 ? UINT64_MAX : now + (uint64_t)limit->timeout;
    return now >= limit->deadline ? 0 : (int64_t)(limit->deadline - now);
}

/* -- put -------------------------------------------------------------------------------------------------------------- */

enum outcome { DONE, BLOCKED, SHUT, FAILED, RAISED, LATE };

/* Append the parcel, which may lie in a cell already.  FAILED: *error. */
static enum outcome append(PyObject *op, struct ring *ring, struct tl_self *me, const struct parcel *parcel,
                           uint32_t cell, int64_t left, int *error)
{
    enum wait_result locked = lock_side(op, ring, PUT, me, left);
    enum outcome outcome = DONE;
    if (locked != WAIT_GOT)
        return locked == WAIT_ERROR ? RAISED : LATE;
    TL_POINT("ring.put.locked");
    if (__builtin_expect(atomic_load_explicit(&ring->head->state, memory_order_relaxed) != RING_OPEN, 0)) {
        outcome = SHUT;
    } else if (__builtin_expect(ring_full(ring), 0)) {
        outcome = BLOCKED;
    } else if (cell == UINT32_MAX) {
        *error = ring_append(ring, RECORD_INLINE, parcel->encoding, parcel->data, (uint32_t)parcel->size);
    } else {
        atomic_store(&cell_at(ring, cell)->position, atomic_load(&ring->head->put.position));
        /* From here on the record at that position, once published, is what keeps it. */
        atomic_store(&cell_at(ring, cell)->word, CELL_USED);
        TL_POINT("ring.put.cell");
        *error = ring_append(ring, RECORD_CELL, parcel->encoding, &cell, sizeof cell);
        if (*error != 0) {
            atomic_store(&cell_at(ring, cell)->word, me->token | CELL_FILLING);
            atomic_store(&cell_at(ring, cell)->position, RING_NOWHERE);
        }
    }
    unlock_side(ring, PUT, me);
    return *error != 0 ? FAILED : outcome;
}

/* Write it into a cell: the cell, or UINT32_MAX with an exception. */
static uint32_t fill_cell(struct shared_object *self, struct tl_self *me, const struct parcel *parcel)
{
    struct ring *ring = &self->ring;
    uint32_t cell;
    int error;
    /* Before much memory is asked for: is there some that a dead process had? */
    if (parcel->size >= LARGE && os_now() - atomic_load(&self->swept) > SWEEP_EVERY)
        sweep(self, me);
    error = cell_claim(ring, me->token, parcel->size, &cell);
    if (error == 0) {
        atomic_store(&cell_at(ring, cell)->encoding, parcel->encoding);
        error = parcel_write(parcel, ring, cell);
        if (error != 0)
            cell_fail(ring, cell);
    }
    if (error == 0)
        return cell;
    core_failed(error);
    return UINT32_MAX;
}

static PyObject *put_parcel(PyObject *op, struct ring *ring, struct tl_self *me, const struct parcel *parcel,
                            int64_t timeout)
{
    struct limit limit = {timeout, 0};
    uint32_t cell = UINT32_MAX;
    PyObject *result = NULL;
    int64_t left = timeout;
    bool late = false;
    for (;;) {
        enum outcome outcome;
        int error = 0;
        if (cell == UINT32_MAX && parcel->size > RING_INLINE && ready(ring, RING_PUTTERS) &&
            (cell = fill_cell((struct shared_object *)op, me, parcel)) == UINT32_MAX)
            return NULL;
        if (cell == UINT32_MAX && parcel->size > RING_INLINE)
            outcome = BLOCKED;
        else
            outcome = append(op, ring, me, parcel, cell, left, &error);
        if (__builtin_expect(outcome == DONE, 1)) {
            wake(ring, RING_GETTERS, 1);
            atomic_store_explicit(&((struct shared_object *)op)->used, true, memory_order_relaxed);
            Py_RETURN_NONE;
        }
        if (outcome == FAILED)
            core_failed(error);
        else if (outcome == SHUT)
            QUEUE_RAISE(op, shutdown);
        if (outcome == RAISED || outcome == FAILED || outcome == SHUT)
            break;
        left = left_of(&limit);
        if (outcome == LATE || late || left == 0) {
            QUEUE_RAISE(op, full);
            break;
        }
        switch (wait_for((struct shared_object *)op, RING_PUTTERS, left)) {
        case WAIT_ERROR: goto out;
        case WAIT_TIMEOUT: late = true; left = 0; break;
        case WAIT_GOT: break;
        }
    }
out:
    if (cell != UINT32_MAX)
        cell_release(ring, cell);
    return result;
}

static PyObject *put(PyObject *op, PyObject *item, int64_t timeout)
{
    struct ring *ring = ring_of(op);
    struct tl_self *me = core_self();
    struct parcel parcel;
    PyObject *result;
    if (ring == NULL || me == NULL || parcel_pack(&parcel, core_state_of(op), item) < 0)
        return NULL;
    result = put_parcel(op, ring, me, &parcel, timeout);
    parcel_drop(&parcel);
    return result;
}

/* -- get -------------------------------------------------------------------------------------------------------------- */

/* What was taken and not unpacked yet. */
struct taken {
    char small[RING_INLINE]; /* an inline message */
    size_t size;
    uint8_t encoding;
    uint32_t cell, attempt; /* cell: UINT32_MAX if there is none */
    uint64_t position;
};

/* Mark a cell as ours before the message is taken: TAKEN, or HELD with a receipt. */
static void mark_cell(struct ring *ring, struct tl_self *me, uint32_t cell, tl_token holder, struct taken *taken)
{
    struct ring_cell *c = cell_at(ring, cell);
    taken->cell = cell;
    taken->size = atomic_load(&c->length);
    taken->encoding = (uint8_t)atomic_load(&c->encoding);
    taken->position = atomic_load(&c->position);
    if (holder != 0) {
        taken->attempt = atomic_fetch_add(&c->attempt, 1) + 1;
        atomic_store(&ring->head->held, 1 + atomic_load(&ring->head->held));
        atomic_store(&c->word, holder | CELL_HELD);
    } else {
        atomic_store(&c->word, me->token | CELL_TAKEN);
    }
    TL_POINT("ring.get.marked");
}

/* A receipt's copy of a small message. 0 or an errno. */
static int copy_held(struct ring *ring, struct tl_self *me, tl_token holder, const struct ring_message *message,
                     struct taken *taken)
{
    struct ring_cell *c;
    uint32_t cell;
    int error = cell_claim(ring, me->token, message->length, &cell);
    if (error == 0 && (error = cell_write(ring, cell, 0, message->data, message->length)) != 0)
        cell_fail(ring, cell);
    if (error != 0)
        return error;
    c = cell_at(ring, cell);
    atomic_store(&c->encoding, message->encoding);
    atomic_store(&c->position, message->position);
    mark_cell(ring, me, cell, holder, taken);
    return 0;
}

/* Take the first message: DONE, BLOCKED if there is none, SHUT if there never will be one, FAILED with *error. */
static enum outcome take_first(struct ring *ring, struct tl_self *me, tl_token holder, struct taken *taken, int *error)
{
    struct ring_message message;
    enum ring_state state = atomic_load(&ring->head->state);
    uint32_t cell;
    int found;
    taken->cell = UINT32_MAX;
    taken->attempt = 1;
    if (state == RING_DROPPED)
        return SHUT;
    if (__builtin_expect(atomic_load_explicit(&ring->head->returned, memory_order_relaxed) != 0, 0) &&
        cell_returned(ring, &cell)) {
        mark_cell(ring, me, cell, holder, taken);
        return DONE;
    }
    found = ring_peek(ring, &message);
    if (found < 0) {
        *error = -found;
        return FAILED;
    }
    if (found == 0)
        return state == RING_OPEN ? BLOCKED : SHUT;
    if (message.kind == RECORD_CELL) {
        mark_cell(ring, me, message.cell, holder, taken);
    } else if (__builtin_expect(holder != 0, 0)) {
        *error = copy_held(ring, me, holder, &message, taken);
        if (*error != 0)
            return FAILED;
        memcpy(taken->small, message.data, message.length);
    } else {
        taken->size = message.length;
        taken->encoding = message.encoding;
        memcpy(taken->small, message.data, message.length);
    }
    TL_POINT("ring.get.copied");
    ring_take(ring, &message);
    return DONE;
}

/* Wait for a message and take it.  DONE, or RAISED with an exception. */
static enum outcome take(PyObject *op, struct ring *ring, struct tl_self *me, tl_token holder, int64_t timeout,
                         struct taken *taken)
{
    struct shared_object *self = (struct shared_object *)op;
    struct limit limit = {timeout, 0};
    int64_t left = timeout;
    bool late = false;
    /* A queue that never runs empty is never looked at in vain: what the dead had would not come back to it. */
    if (__builtin_expect(atomic_load_explicit(&ring->head->held, memory_order_relaxed) > 0, 0) &&
        os_now() - atomic_load(&self->swept) > SWEEP_EVERY)
        sweep(self, me);
    for (;;) {
        enum outcome outcome = BLOCKED;
        int error = 0;
        if (ready(ring, RING_GETTERS)) {
            enum wait_result locked = lock_side(op, ring, GET, me, left);
            if (locked == WAIT_ERROR)
                return RAISED;
            if (locked == WAIT_GOT) {
                TL_POINT("ring.get.locked");
                outcome = take_first(ring, me, holder, taken, &error);
                unlock_side(ring, GET, me);
            } else {
                late = true;
            }
        }
        if (__builtin_expect(outcome == DONE, 1)) {
            TL_POINT("ring.get.taken");
            wake(ring, RING_PUTTERS, 1);
            return DONE;
        }
        if (outcome == FAILED)
            core_failed(error);
        else if (outcome == SHUT)
            QUEUE_RAISE(op, shutdown);
        if (outcome != BLOCKED)
            return RAISED;
        /* Who looks in vain looks for what the dead have left. */
        if (atomic_load(&ring->head->held) > 0 && os_now() - atomic_load(&self->swept) > SWEEP_EVERY) {
            sweep(self, me);
            if (ready(ring, RING_GETTERS))
                continue;
        }
        left = left_of(&limit);
        if (late || left == 0) {
            QUEUE_RAISE(op, empty);
            return RAISED;
        }
        switch (wait_for(self, RING_GETTERS, left)) {
        case WAIT_ERROR: return RAISED;
        case WAIT_TIMEOUT: late = true; left = 0; break;
        case WAIT_GOT: break;
        }
    }
}

static PyObject *get(PyObject *op, int64_t timeout)
{
    struct ring *ring = ring_of(op);
    struct tl_self *me = core_self();
    struct taken taken;
    PyObject *value;
    bool lent = false;
    if (ring == NULL || me == NULL || take(op, ring, me, 0, timeout, &taken) != DONE)
        return NULL;
    if (__builtin_expect(taken.cell == UINT32_MAX, 1))
        return parcel_unpack(core_state_of(op), taken.encoding, taken.small, taken.size);
    value = parcel_unpack_cell(core_state_of(op), op, ring, taken.cell, taken.encoding, taken.size,
                               me->token | CELL_TAKEN, &lent);
    if (!lent)
        cell_release(ring, taken.cell);
    return value;
}

/* -- arguments ---------------------------------------------------------------------------------------------------------- */

/* The arguments ([obj], block=True, timeout=None).  *timeout: 0 don't wait, -1 forever. */
static int block_args(const char *first, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **item,
                      int64_t *timeout)
{
    PyObject *values[3];
    int block = 1;
    if (queue_args(first, args, nargs, kwnames, values) < 0)
        return -1;
    *item = values[0];
    if (values[1] != NULL && (block = PyObject_IsTrue(values[1])) < 0)
        return -1;
    if (core_timeout(values[2], timeout) < 0)
        return -1;
    if (!block)
        *timeout = 0;
    return 0;
}

static PyObject *shared_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 1 && kwnames == NULL)
        return put(op, args[0], -1);
    return block_args("obj", args, nargs, kwnames, &item, &timeout) < 0 ? NULL : put(op, item, timeout);
}

static PyObject *shared_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 0 && kwnames == NULL)
        return get(op, -1);
    return block_args(NULL, args, nargs, kwnames, &item, &timeout) < 0 ? NULL : get(op, timeout);
}

static PyObject *shared_put_nowait(PyObject *op, PyObject *item) { return put(op, item, 0); }
static PyObject *shared_get_nowait(PyObject *op, PyObject *Py_UNUSED(ignored)) { return get(op, 0); }

/* -- receipts ----------------------------------------------------------------------------------------------------------- */

/* _take(receipt: list, block, timeout): receipt is extended by value, cell, position and attempt, before any signal
 * handler can come in between. */
static PyObject *shared_take(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct ring *ring = ring_of(op);
    struct tl_self *me = core_self();
    tl_token holder;
    struct taken taken;
    PyObject *item, *value, *receipt;
    int64_t timeout = -1;
    bool lent;
    int rc;
    if (ring == NULL || me == NULL)
        return NULL;
    if (nargs < 1 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    if (block_args(NULL, args + 1, nargs - 1, NULL, &item, &timeout) < 0)
        return NULL;
    holder = tl_process_token();
    if (holder == 0)
        return core_no_record();
    if (take(op, ring, me, holder, timeout, &taken) != DONE)
        return NULL;
    value = parcel_unpack_cell(core_state_of(op), op, ring, taken.cell, taken.encoding, taken.size, 0, &lent);
    receipt = value == NULL ? NULL : Py_BuildValue("(NIKI)", value, taken.cell, (unsigned long long)taken.position,
                                                   taken.attempt);
    rc = receipt == NULL ? -1 : PyList_SetSlice(args[0], 0, PyList_GET_SIZE(args[0]), receipt);
    Py_XDECREF(receipt);
    if (rc < 0) { /* it can't be read here: perhaps another consumer can, and if not it becomes a dead letter */
        PyObject *kind, *error, *traceback;
        PyErr_Fetch(&kind, &error, &traceback);
        cell_give_back(ring, taken.cell, holder | CELL_HELD);
        wake(ring, RING_GETTERS, 1);
        wake(ring, RING_JOINERS, -1);
        PyErr_Restore(kind, error, traceback);
        return NULL;
    }
    Py_RETURN_NONE;
}

static bool finish_one(struct ring *ring)
{
    uint64_t done = atomic_load(&ring->head->done);
    do {
        if (done >= tasks(ring))
            return false;
    } while (!atomic_compare_exchange_weak(&ring->head->done, &done, done + 1));
    TL_POINT("ring.done");
    if (unfinished(ring) == 0)
        wake(ring, RING_JOINERS, -1);
    return true;
}

/* _settle(cell, position, done, task_done) -> whether the receipt was still good. */
static PyObject *shared_settle(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    tl_token holder = tl_process_token();
    unsigned int cell;
    unsigned long long position;
    int done, counts;
    if (me == NULL || !PyArg_ParseTuple(args, "IKpp:_settle", &cell, &position, &done, &counts))
        return NULL;
    if (!self->made || cell >= atomic_load(&self->ring.head->cells) || holder == 0 ||
        atomic_load(&cell_at(&self->ring, cell)->position) != position)
        Py_RETURN_FALSE;
    if (!done) {
        if (atomic_load(&cell_at(&self->ring, cell)->word) != (holder | CELL_HELD))
            Py_RETURN_FALSE;
        cell_give_back(&self->ring, cell, holder | CELL_HELD);
        wake(&self->ring, RING_GETTERS, 1);
        wake(&self->ring, RING_JOINERS, -1);
        Py_RETURN_TRUE;
    }
    if (!cell_turn(&self->ring, cell, holder | CELL_HELD, me->token | CELL_TAKEN))
        Py_RETURN_FALSE;
    TL_POINT("ring.settle.done");
    if (counts)
        finish_one(&self->ring);
    cell_release(&self->ring, cell);
    Py_RETURN_TRUE;
}

/* _dead_letters(remove) -> [(value, attempts), ...], in the order in which they were put. */
static PyObject *shared_dead_letters(PyObject *op, PyObject *arg)
{
    struct ring *ring = ring_of(op);
    struct tl_self *me = core_self();
    int removed = PyObject_IsTrue(arg);
    PyObject *list;
    uint64_t above = 0;
    if (ring == NULL || me == NULL || removed < 0)
        return NULL;
    list = PyList_New(0);
    while (list != NULL) {
        uint32_t cells = atomic_load(&ring->head->cells), i, best = UINT32_MAX;
        uint64_t first = UINT64_MAX;
        struct ring_cell *c;
        PyObject *value, *pair;
        bool ours;
        for (i = 0; i < cells; i++) {
            uint64_t position = atomic_load(&cell_at(ring, i)->position);
            if (atomic_load(&cell_at(ring, i)->word) == CELL_DEAD && position >= above && position < first) {
                first = position;
                best = i;
            }
        }
        if (best == UINT32_MAX)
            break;
        above = first + 1;
        /* Read by one at a time; who is killed while reading has taken it. */
        ours = cell_turn(ring, best, CELL_DEAD, me->token | CELL_TAKEN);
        if (!ours)
            continue;
        c = cell_at(ring, best);
        value = parcel_unpack_cell(core_state_of(op), op, ring, best, (uint8_t)atomic_load(&c->encoding),
                                   atomic_load(&c->length), 0, &ours);
        if (value == NULL) { /* can't be unpickled here: its error stands for it */
            PyObject *kind, *traceback;
            PyErr_Fetch(&kind, &value, &traceback);
            PyErr_NormalizeException(&kind, &value, &traceback);
            Py_XDECREF(kind);
            Py_XDECREF(traceback);
        }
        pair = Py_BuildValue("(NI)", value, atomic_load(&c->attempt));
        if (removed)
            cell_release(ring, best);
        else
            cell_turn(ring, best, me->token | CELL_TAKEN, CELL_DEAD);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

/* -- the rest ------------------------------------------------------------------------------------------------------------ */

static PyObject *shared_task_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = ring_of(op);
    if (ring == NULL)
        return NULL;
    if (!finish_one(ring)) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *shared_join(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    while (self->made && unfinished(&self->ring) > 0)
        if (wait_for(self, RING_JOINERS, -1) == WAIT_ERROR)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *shared_shutdown(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"immediate", NULL};
    struct shared_object *self = (struct shared_object *)op;
    struct ring *ring = &self->ring;
    struct tl_self *me = core_self();
    struct ring_message message;
    int immediate = 0;
    if (me == NULL || ring_of(op) == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|p:shutdown", names, &immediate))
        return NULL;
    if (lock_side(op, ring, PUT, me, -1) != WAIT_GOT)
        return NULL;
    if (atomic_load(&ring->head->state) == RING_OPEN)
        atomic_store(&ring->head->state, RING_SHUT);
    unlock_side(ring, PUT, me);
    if (immediate) {
        if (lock_side(op, ring, GET, me, -1) != WAIT_GOT)
            return NULL;
        if (atomic_load(&ring->head->state) != RING_DROPPED) {
            atomic_store(&ring->head->frozen, ring_count(&ring->head->get));
            atomic_store(&ring->head->state, RING_DROPPED);
        }
        TL_POINT("ring.shutdown.dropped");
        while (ring_peek(ring, &message) == 1) {
            if (message.kind == RECORD_CELL)
                atomic_store(&cell_at(ring, message.cell)->word, me->token | CELL_TAKEN);
            ring_take(ring, &message);
            if (message.kind == RECORD_CELL)
                cell_release(ring, message.cell);
        }
        unlock_side(ring, GET, me);
    }
    wake(ring, RING_GETTERS, -1);
    wake(ring, RING_PUTTERS, -1);
    wake(ring, RING_JOINERS, -1);
    Py_RETURN_NONE;
}

static uint64_t size_of(struct ring *ring)
{
    uint32_t cells = atomic_load(&ring->head->cells), i;
    uint64_t size = atomic_load(&ring->head->state) == RING_DROPPED ? 0 : ring_size(ring);
    if (atomic_load(&ring->head->held) > 0) /* what came back waits in cells */
        for (i = 0; i < cells; i++)
            size += atomic_load(&cell_at(ring, i)->word) == CELL_BACK;
    return size;
}

static struct ring *open_ring(PyObject *op)
{
    struct shared_object *self = (struct shared_object *)op;
    if (self->made)
        return &self->ring;
    PyErr_SetString(PyExc_ValueError, "this queue was never set up");
    return NULL;
}

static PyObject *shared_qsize(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = open_ring(op);
    return ring == NULL ? NULL : PyLong_FromUnsignedLongLong(size_of(ring));
}

static PyObject *shared_empty(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    struct ring *ring = open_ring(op);
    if (atomic_load(&self->closed) && atomic_load(&self->used)) { /* as multiprocessing's, whose pipe is open until used */
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    return ring == NULL ? NULL : PyBool_FromLong(size_of(ring) == 0);
}

static PyObject *shared_full(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = open_ring(op);
    return ring == NULL ? NULL : PyBool_FromLong(ring_full(ring));
}

static enum ring_mark mark_of(PyObject *putters, int *error)
{
    int side = PyObject_IsTrue(putters);
    *error = side < 0;
    return side > 0 ? RING_PUTTERS : RING_GETTERS;
}

/* _await(putters, timeout) -> whether there is room (or an object), or the queue was shut down.  Takes nothing. */
static PyObject *shared_await(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct shared_object *self = (struct shared_object *)op;
    enum ring_mark mark;
    int64_t timeout;
    int error;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_await(putters, timeout)");
        return NULL;
    }
    mark = mark_of(args[0], &error);
    if (error || ring_of(op) == NULL || core_timeout(args[1], &timeout) < 0)
        return NULL;
    if (ready(&self->ring, mark))
        Py_RETURN_TRUE;
    return core_lock_acquired(wait_for(self, mark, timeout));
}

/* _nudge(putters): who awaited has not taken what was there; let the next one know. */
static PyObject *shared_nudge(PyObject *op, PyObject *putters)
{
    struct shared_object *self = (struct shared_object *)op;
    int error;
    enum ring_mark mark = mark_of(putters, &error);
    if (error)
        return NULL;
    if (self->made && ready(&self->ring, mark))
        wake(&self->ring, mark, 1);
    Py_RETURN_NONE;
}

static PyObject *shared_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL)
        return NULL;
    atomic_store(&self->closed, true);
    if (self->made)
        cells_trim(&self->ring, me->token, true);
    Py_RETURN_NONE;
}

/* -- the object ---------------------------------------------------------------------------------------------------------- */

static PyObject *shared_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return open_alloc(type);
}

static int not_made(struct shared_object *self)
{
    if (!self->made)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "this queue is set up already");
    return -1;
}

/* _setup(maxsize, max_attempts) */
static PyObject *shared_setup(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    long long maxsize;
    unsigned int attempts;
    int error;
    if (core_self() == NULL || !PyArg_ParseTuple(args, "LI:_setup", &maxsize, &attempts) || not_made(self) < 0)
        return NULL;
    error = ring_new(&self->ring, maxsize, attempts);
    if (error != 0)
        return core_failed(error);
    self->made = true;
    Py_RETURN_NONE;
}

/* _attach(pid, fd, id): be the queue of that handle. */
static PyObject *shared_attach(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_handle handle;
    struct tl_segment *segment;
    unsigned long long id;
    int error;
    if (core_self() == NULL || !PyArg_ParseTuple(args, "IiK:_attach", &handle.pid, &handle.fd, &id) ||
        not_made(self) < 0)
        return NULL;
    handle.id = id;
    segment = tl_segment_join(&handle);
    error = segment == NULL ? errno : ring_open(&self->ring, segment);
    if (error == ENOENT) {
        PyErr_SetString(PyExc_FileNotFoundError, "this queue is gone: every process that had it has ended");
        return NULL;
    }
    if (error != 0)
        return core_failed(error);
    self->made = true;
    Py_RETURN_NONE;
}

/* _handle() -> (pid, fd, id), and the queue is under way. */
static PyObject *shared_handle(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = open_ring(op);
    struct tl_handle handle;
    if (ring == NULL)
        return NULL;
    handle = tl_segment_send(ring->segment);
    return Py_BuildValue("(IiK)", handle.pid, handle.fd, (unsigned long long)handle.id);
}

static void shared_dealloc(PyObject *op)
{
    struct shared_object *self = (struct shared_object *)op;
    PyObject_GC_UnTrack(op);
    if (self->made)
        ring_close(&self->ring);
    self->made = false;
    open_clear(op);
    open_dealloc(op);
}

static PyObject *get_maxsize(PyObject *op, void *Py_UNUSED(closure))
{
    struct ring *ring = open_ring(op);
    return ring == NULL ? NULL : PyLong_FromLongLong(atomic_load(&ring->head->maxsize));
}

static PyObject *get_attempts(PyObject *op, void *Py_UNUSED(closure))
{
    struct ring *ring = open_ring(op);
    uint32_t most = ring == NULL ? 0 : atomic_load(&ring->head->max_attempts);
    return ring == NULL ? NULL : most == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(most);
}

static PyObject *get_unfinished(PyObject *op, void *Py_UNUSED(closure))
{
    struct ring *ring = open_ring(op);
    return ring == NULL ? NULL : PyLong_FromUnsignedLongLong(unfinished(ring));
}

static PyObject *get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct shared_object *)op)->closed));
}

static PyObject *get_shut(PyObject *op, void *Py_UNUSED(closure))
{
    struct ring *ring = open_ring(op);
    return ring == NULL ? NULL : PyBool_FromLong(atomic_load(&ring->head->state) != RING_OPEN);
}

/* What it uses: for tests and for whoever wonders. */
static PyObject *shared_insides(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = open_ring(op);
    uint32_t i, cells, used = 0;
    if (ring == NULL)
        return NULL;
    cells = atomic_load(&ring->head->cells);
    for (i = 0; i < cells; i++)
        used += atomic_load(&cell_at(ring, i)->word) != CELL_FREE;
    return Py_BuildValue("{sIsisIsIsLsKsKsi}", "chunks", atomic_load(&ring->head->chunks), "resident",
                         (int)atomic_load(&ring->head->resident), "cells", cells, "used", used, "spare",
                         (long long)atomic_load(&ring->head->spare), "put",
                         (unsigned long long)ring_count(&ring->head->put), "got",
                         (unsigned long long)ring_count(&ring->head->get), "fd", ring->segment->fd);
}

PyDoc_STRVAR(put_doc,
"put($self, /, obj, block=True, timeout=None)\n--\n\n"
"Put an object; it is pickled at once, and visible at once to every process.\n\n"
"If the queue is full, wait for room, at most `timeout` seconds (None: forever): Full if there was none in time, or\n"
"block is false.  Whatever pickling raises; MemoryError or OSError if the machine is full; ShutDown; ValueError after\n"
"close().  If it raises, nothing was put.  Safe in threads and processes.");
PyDoc_STRVAR(get_doc,
"get($self, /, block=True, timeout=None)\n--\n\n"
"Take an object; if there is none, wait for one, at most `timeout` seconds (None: forever).\n\n"
"Empty if none came in time, or block is false; ShutDown if the queue was shut down and is empty; ValueError after\n"
"close().  If unpickling raises, that is raised, and the object is gone.  Safe in threads and processes.");

static PyMethodDef shared_methods[] = {
    {"put", FAST(shared_put), METH_FASTCALL | METH_KEYWORDS, put_doc},
    {"get", FAST(shared_get), METH_FASTCALL | METH_KEYWORDS, get_doc},
    {"put_nowait", shared_put_nowait, METH_O, "put_nowait($self, obj, /)\n--\n\nput(obj, block=False)"},
    {"get_nowait", shared_get_nowait, METH_NOARGS, "get_nowait($self, /)\n--\n\nget(block=False)"},
    {"qsize", shared_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nHow many objects there are now."},
    {"empty", shared_empty, METH_NOARGS, "empty($self, /)\n--\n\nWhether there is no object now."},
    {"full", shared_full, METH_NOARGS, "full($self, /)\n--\n\nWhether there is no room now."},
    {"_take", FAST(shared_take), METH_FASTCALL, NULL},
    {"_settle", shared_settle, METH_VARARGS, NULL},
    {"_dead_letters", shared_dead_letters, METH_O, NULL},
    {"_task_done", shared_task_done, METH_NOARGS, NULL},
    {"_join", shared_join, METH_NOARGS, NULL},
    {"_shutdown", FAST(shared_shutdown), METH_VARARGS | METH_KEYWORDS, NULL},
    {"_await", FAST(shared_await), METH_FASTCALL, NULL},
    {"_nudge", shared_nudge, METH_O, NULL},
    {"_close", shared_close, METH_NOARGS, NULL},
    {"_setup", shared_setup, METH_VARARGS, NULL},
    {"_attach", shared_attach, METH_VARARGS, NULL},
    {"_handle", shared_handle, METH_NOARGS, NULL},
    {"_insides", shared_insides, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"maxsize", get_maxsize, NULL, "The most objects that fit; 0 or less: no limit but memory.", NULL},
    {"max_attempts", get_attempts, NULL, "How often an object is given out by take(); None: no limit.", NULL},
    {"_unfinished", get_unfinished, NULL, NULL, NULL},
    {"_closed", get_closed, NULL, NULL, NULL},
    {"_shut", get_shut, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot shared_slots[] = {
    {Py_tp_new, shared_new},           {Py_tp_traverse, open_traverse}, {Py_tp_clear, open_clear},
    {Py_tp_dealloc, shared_dealloc},   {Py_tp_methods, shared_methods}, {Py_tp_members, open_members},
    {Py_tp_getset, shared_getset},     {0, NULL},
};

static PyType_Spec shared_spec = {
    .name = "treadle._native._core.SharedQueue",
    .basicsize = sizeof(struct shared_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = shared_slots,
};

int core_add_shared_queue(PyObject *module, struct core_state *state)
{
    state->shared_queue_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shared_spec, NULL);
    return state->shared_queue_type == NULL ? -1 : PyModule_AddType(module, state->shared_queue_type);
}
