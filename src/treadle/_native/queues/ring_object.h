/* The queue between processes, for what it is made of: put and get, its sides, its receipts. */
#ifndef TREADLE_RING_OBJECT_H
#define TREADLE_RING_OBJECT_H

#include "python/arguments.h"
#include "python/open_object.h"
#include "sync/lock_object.h"
#include "values/parcel.h"
#include "queues/common.h"

struct shared_queue {
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
static inline struct ring *shared_queue_ring(PyObject *op)
{
    struct shared_queue *self = (struct shared_queue *)op;
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

/* -- the sides; see ring_sides.c ---------------------------------------------------------------------------------------- */

#define SWEEP_EVERY ((uint64_t)40 * 1000000) /* ns */

enum side { PUT, GET };

static inline struct ring_side *shared_queue_side(struct ring *ring, enum side side)
{
    return side == PUT ? &ring->head->put : &ring->head->get;
}

static inline uint64_t shared_queue_lock_id(struct ring *ring, enum side side)
{
    return ring_object(ring, side == PUT ? RING_PUT_LOCK : RING_GET_LOCK);
}

/* Take the side's lock.  WAIT_TIMEOUT only if its holder is stopped: it is held for moments. */
enum wait_result shared_queue_lock_side(PyObject *op, struct ring *ring, enum side side, struct tl_self *me, int64_t timeout);

static inline void shared_queue_unlock_side(struct ring *ring, enum side side, struct tl_self *me)
{
    tl_lock_release(&shared_queue_side(ring, side)->lock, shared_queue_lock_id(ring, side), me);
}

/* How many messages task_done() is to be called for. */
static inline uint64_t shared_queue_tasks(struct ring *ring)
{
    struct ring_head *head = ring->head;
    return atomic_load(&head->state) == RING_DROPPED ? atomic_load(&head->frozen) : ring_count(&head->put);
}

static inline uint64_t shared_queue_unfinished(struct ring *ring)
{
    uint64_t done = atomic_load(&ring->head->done), all = shared_queue_tasks(ring);
    return all > done ? all - done : 0;
}

static inline bool shared_queue_ready(struct ring *ring, enum ring_mark mark)
{
    enum ring_state state = atomic_load(&ring->head->state);
    if (mark == RING_JOINERS)
        return shared_queue_unfinished(ring) == 0;
    if (state != RING_OPEN)
        return true;
    return mark == RING_GETTERS ? !ring_log_empty(ring) || atomic_load(&ring->head->returned) : !ring_full(ring);
}

/* Wake n who wait (n < 0: all).  The mark stays while somebody is left; after it was taken off, the board is looked
 * through once more, for one that published before and marked too early. */
void shared_queue_wake_marked(struct ring *ring, enum ring_mark mark, int64_t n);

static inline void shared_queue_wake(struct ring *ring, enum ring_mark mark, int64_t n)
{
    /* What changed was stored sequentially consistent: either this sees the mark, or who marks sees the change. */
    if (__builtin_expect(atomic_load(&ring->head->marks[mark]) != 0, 0))
        shared_queue_wake_marked(ring, mark, n);
}

/* Dead takers' messages come back; dead readers' memory too.  Only if the lock is free: else whoever has it is alive,
 * or the next look finds out. */
void shared_queue_sweep(struct shared_queue *self, struct tl_self *me);

/* Wait until that side may be able to go on. */
enum wait_result shared_queue_wait(struct shared_queue *self, enum ring_mark mark, int64_t timeout);

/* What is left of a time-out: -1 forever, 0 no more. */
struct limit {
    int64_t timeout;
    uint64_t deadline;
};
int64_t limit_left(struct limit *limit);

/* -- taking; see ring_object.c ------------------------------------------------------------------------------------------ */

enum outcome { DONE, BLOCKED, SHUT, FAILED, RAISED, LATE };

/* What was taken and not unpacked yet. */
struct taken {
    char small[RING_INLINE]; /* an inline message */
    size_t size;
    uint8_t encoding;
    uint32_t cell, attempt; /* cell: UINT32_MAX if there is none */
    uint64_t position;
};

/* Wait for a message and take it.  DONE, or RAISED with an exception. */
enum outcome shared_queue_take(PyObject *op, struct ring *ring, struct tl_self *me, tl_token holder, int64_t timeout,
                               struct taken *taken);

/* The arguments ([obj], block=True, timeout=None).  *timeout: 0 don't wait, -1 forever. */
static inline int shared_queue_block_args(const char *first, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                                          PyObject **item, int64_t *timeout)
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

/* -- receipts; see receipts.c ------------------------------------------------------------------------------------------- */

/* One more message is dealt with; false: there is none left. */
bool shared_queue_finish_one(struct ring *ring);
PyObject *receipts_take(PyObject *op, PyObject *const *args, Py_ssize_t nargs);
PyObject *receipts_settle(PyObject *op, PyObject *args);
PyObject *receipts_dead_letters(PyObject *op, PyObject *arg);

#endif
