/* SharedQueue: values, between processes, on a ring.
 *
 * Waiting for items or room is as with every primitive: publish the wait, mark the side as waited for, look again; who
 * changes the ring looks at the mark, then through the board.  Producers and consumers hold their side's lock for a
 * copy of a small message only, never while they wait or run Python code.
 */
#include "queues/ring_object.h"
#include "queues/queues.h"
#include "python/text.h"
#include "system/points.h"

#include <string.h>

#define LARGE (1u << 20)

/* -- put -------------------------------------------------------------------------------------------------------------- */

/* Append the parcel, which may lie in a cell already.  FAILED: *error. */
static enum outcome append(PyObject *op, struct ring *ring, struct tl_self *me, const struct parcel *parcel,
                           uint32_t cell, int64_t left, int *error)
{
    enum wait_result locked = shared_queue_lock_side(op, ring, PUT, me, left);
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
    shared_queue_unlock_side(ring, PUT, me);
    return *error != 0 ? FAILED : outcome;
}

/* Write it into a cell: the cell, or UINT32_MAX with an exception. */
static uint32_t fill_cell(struct shared_queue *self, struct tl_self *me, const struct parcel *parcel)
{
    struct ring *ring = &self->ring;
    uint32_t cell;
    int error;
    /* Before much memory is asked for: is there some that a dead process had? */
    if (parcel->size >= LARGE && os_now() - atomic_load(&self->swept) > SWEEP_EVERY)
        shared_queue_sweep(self, me);
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
        if (cell == UINT32_MAX && parcel->size > RING_INLINE && shared_queue_ready(ring, RING_PUTTERS) &&
            (cell = fill_cell((struct shared_queue *)op, me, parcel)) == UINT32_MAX)
            return NULL;
        if (cell == UINT32_MAX && parcel->size > RING_INLINE)
            outcome = BLOCKED;
        else
            outcome = append(op, ring, me, parcel, cell, left, &error);
        if (__builtin_expect(outcome == DONE, 1)) {
            shared_queue_wake(ring, RING_GETTERS, 1);
            atomic_store_explicit(&((struct shared_queue *)op)->used, true, memory_order_relaxed);
            Py_RETURN_NONE;
        }
        if (outcome == FAILED)
            core_failed(error);
        else if (outcome == SHUT)
            QUEUE_RAISE(op, shutdown);
        if (outcome == RAISED || outcome == FAILED || outcome == SHUT)
            break;
        left = limit_left(&limit);
        if (outcome == LATE || late || left == 0) {
            QUEUE_RAISE(op, full);
            break;
        }
        switch (shared_queue_wait((struct shared_queue *)op, RING_PUTTERS, left)) {
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
    struct ring *ring = shared_queue_ring(op);
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

enum outcome shared_queue_take(PyObject *op, struct ring *ring, struct tl_self *me, tl_token holder, int64_t timeout,
                               struct taken *taken)
{
    struct shared_queue *self = (struct shared_queue *)op;
    struct limit limit = {timeout, 0};
    int64_t left = timeout;
    bool late = false;
    /* A queue that never runs empty is never looked at in vain: what the dead had would not come back to it. */
    if (__builtin_expect(atomic_load_explicit(&ring->head->held, memory_order_relaxed) > 0, 0) &&
        os_now() - atomic_load(&self->swept) > SWEEP_EVERY)
        shared_queue_sweep(self, me);
    for (;;) {
        enum outcome outcome = BLOCKED;
        int error = 0;
        if (shared_queue_ready(ring, RING_GETTERS)) {
            enum wait_result locked = shared_queue_lock_side(op, ring, GET, me, left);
            if (locked == WAIT_ERROR)
                return RAISED;
            if (locked == WAIT_GOT) {
                TL_POINT("ring.get.locked");
                outcome = take_first(ring, me, holder, taken, &error);
                shared_queue_unlock_side(ring, GET, me);
            } else {
                late = true;
            }
        }
        if (__builtin_expect(outcome == DONE, 1)) {
            TL_POINT("ring.get.taken");
            shared_queue_wake(ring, RING_PUTTERS, 1);
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
            shared_queue_sweep(self, me);
            if (shared_queue_ready(ring, RING_GETTERS))
                continue;
        }
        left = limit_left(&limit);
        if (late || left == 0) {
            QUEUE_RAISE(op, empty);
            return RAISED;
        }
        switch (shared_queue_wait(self, RING_GETTERS, left)) {
        case WAIT_ERROR: return RAISED;
        case WAIT_TIMEOUT: late = true; left = 0; break;
        case WAIT_GOT: break;
        }
    }
}

static PyObject *get(PyObject *op, int64_t timeout)
{
    struct ring *ring = shared_queue_ring(op);
    struct tl_self *me = core_self();
    struct taken taken;
    PyObject *value;
    bool lent = false;
    if (ring == NULL || me == NULL || shared_queue_take(op, ring, me, 0, timeout, &taken) != DONE)
        return NULL;
    if (__builtin_expect(taken.cell == UINT32_MAX, 1))
        return parcel_unpack(core_state_of(op), taken.encoding, taken.small, taken.size);
    value = parcel_unpack_cell(core_state_of(op), op, ring, taken.cell, taken.encoding, taken.size,
                               me->token | CELL_TAKEN, &lent);
    if (!lent)
        cell_release(ring, taken.cell);
    return value;
}

static PyObject *shared_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 1 && kwnames == NULL)
        return put(op, args[0], -1);
    return shared_queue_block_args("obj", args, nargs, kwnames, &item, &timeout) < 0 ? NULL : put(op, item, timeout);
}

static PyObject *shared_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 0 && kwnames == NULL)
        return get(op, -1);
    return shared_queue_block_args(NULL, args, nargs, kwnames, &item, &timeout) < 0 ? NULL : get(op, timeout);
}

static PyObject *shared_put_nowait(PyObject *op, PyObject *item) { return put(op, item, 0); }
static PyObject *shared_get_nowait(PyObject *op, PyObject *Py_UNUSED(ignored)) { return get(op, 0); }

/* -- the rest ------------------------------------------------------------------------------------------------------------ */

static PyObject *shared_task_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = shared_queue_ring(op);
    if (ring == NULL)
        return NULL;
    if (!shared_queue_finish_one(ring)) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *shared_join(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_queue *self = (struct shared_queue *)op;
    while (self->made && shared_queue_unfinished(&self->ring) > 0)
        if (shared_queue_wait(self, RING_JOINERS, -1) == WAIT_ERROR)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *shared_shutdown(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"immediate", NULL};
    struct shared_queue *self = (struct shared_queue *)op;
    struct ring *ring = &self->ring;
    struct tl_self *me = core_self();
    struct ring_message message;
    int immediate = 0;
    if (me == NULL || shared_queue_ring(op) == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|p:shutdown", names, &immediate))
        return NULL;
    if (shared_queue_lock_side(op, ring, PUT, me, -1) != WAIT_GOT)
        return NULL;
    if (atomic_load(&ring->head->state) == RING_OPEN)
        atomic_store(&ring->head->state, RING_SHUT);
    shared_queue_unlock_side(ring, PUT, me);
    if (immediate) {
        if (shared_queue_lock_side(op, ring, GET, me, -1) != WAIT_GOT)
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
        shared_queue_unlock_side(ring, GET, me);
    }
    shared_queue_wake(ring, RING_GETTERS, -1);
    shared_queue_wake(ring, RING_PUTTERS, -1);
    shared_queue_wake(ring, RING_JOINERS, -1);
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
    struct shared_queue *self = (struct shared_queue *)op;
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
    struct shared_queue *self = (struct shared_queue *)op;
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
    struct shared_queue *self = (struct shared_queue *)op;
    enum ring_mark mark;
    int64_t timeout;
    int error;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_await(putters, timeout)");
        return NULL;
    }
    mark = mark_of(args[0], &error);
    if (error || shared_queue_ring(op) == NULL || core_timeout(args[1], &timeout) < 0)
        return NULL;
    if (shared_queue_ready(&self->ring, mark))
        Py_RETURN_TRUE;
    return core_lock_acquired(shared_queue_wait(self, mark, timeout));
}

/* _nudge(putters): who awaited has not taken what was there; let the next one know. */
static PyObject *shared_nudge(PyObject *op, PyObject *putters)
{
    struct shared_queue *self = (struct shared_queue *)op;
    int error;
    enum ring_mark mark = mark_of(putters, &error);
    if (error)
        return NULL;
    if (self->made && shared_queue_ready(&self->ring, mark))
        shared_queue_wake(&self->ring, mark, 1);
    Py_RETURN_NONE;
}

static PyObject *shared_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_queue *self = (struct shared_queue *)op;
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

static int not_made(struct shared_queue *self)
{
    if (!self->made)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "this queue is set up already");
    return -1;
}

/* _setup(maxsize, max_attempts) */
static PyObject *shared_setup(PyObject *op, PyObject *args)
{
    struct shared_queue *self = (struct shared_queue *)op;
    long long maxsize;
    unsigned int attempts;
    int error;
    if (core_self() == NULL || !PyArg_ParseTuple(args, "LI:_setup", &maxsize, &attempts) || not_made(self) < 0)
        return NULL;
    error = ring_new(&self->ring, maxsize, attempts);
    if (error != 0)
        return core_failed(error);
    core_store_users_place(core_state_of(op), self->ring.head->place, RING_PLACE);
    self->made = true;
    Py_RETURN_NONE;
}

/* _attach(pid, fd, id): be the queue of that handle. */
static PyObject *shared_attach(PyObject *op, PyObject *args)
{
    struct shared_queue *self = (struct shared_queue *)op;
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
    struct shared_queue *self = (struct shared_queue *)op;
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
    return ring == NULL ? NULL : PyLong_FromUnsignedLongLong(shared_queue_unfinished(ring));
}

static PyObject *get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct shared_queue *)op)->closed));
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
    {"_take", FAST(receipts_take), METH_FASTCALL, NULL},
    {"_settle", receipts_settle, METH_VARARGS, NULL},
    {"_dead_letters", receipts_dead_letters, METH_O, NULL},
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
    .basicsize = sizeof(struct shared_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = shared_slots,
};

int core_add_shared_queue(PyObject *module, struct core_state *state)
{
    state->shared_queue_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shared_spec, NULL);
    return state->shared_queue_type == NULL ? -1 : PyModule_AddType(module, state->shared_queue_type);
}
