/* Receipts for what was taken from a queue between processes and is not dealt with; and what was given back too often. */
#include "queues/ring_object.h"
#include "system/points.h"

/* _take(receipt: list, block, timeout): receipt is extended by value, cell, position and attempt, before any signal
 * handler can come in between. */
PyObject *receipts_take(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct ring *ring = shared_queue_ring(op);
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
    if (shared_queue_block_args(NULL, args + 1, nargs - 1, NULL, &item, &timeout) < 0)
        return NULL;
    holder = tl_process_token();
    if (holder == 0)
        return core_no_record();
    if (shared_queue_take(op, ring, me, holder, timeout, &taken) != DONE)
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
        shared_queue_wake(ring, RING_GETTERS, 1);
        shared_queue_wake(ring, RING_JOINERS, -1);
        PyErr_Restore(kind, error, traceback);
        return NULL;
    }
    Py_RETURN_NONE;
}

bool shared_queue_finish_one(struct ring *ring)
{
    uint64_t done = atomic_load(&ring->head->done);
    do {
        if (done >= shared_queue_tasks(ring))
            return false;
    } while (!atomic_compare_exchange_weak(&ring->head->done, &done, done + 1));
    TL_POINT("ring.done");
    if (shared_queue_unfinished(ring) == 0)
        shared_queue_wake(ring, RING_JOINERS, -1);
    return true;
}

/* _settle(cell, position, done, task_done) -> whether the receipt was still good. */
PyObject *receipts_settle(PyObject *op, PyObject *args)
{
    struct shared_queue *self = (struct shared_queue *)op;
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
        shared_queue_wake(&self->ring, RING_GETTERS, 1);
        shared_queue_wake(&self->ring, RING_JOINERS, -1);
        Py_RETURN_TRUE;
    }
    if (!cell_turn(&self->ring, cell, holder | CELL_HELD, me->token | CELL_TAKEN))
        Py_RETURN_FALSE;
    TL_POINT("ring.settle.done");
    if (counts)
        shared_queue_finish_one(&self->ring);
    cell_release(&self->ring, cell);
    Py_RETURN_TRUE;
}

/* _dead_letters(remove) -> [(value, attempts), ...], in the order in which they were put. */
PyObject *receipts_dead_letters(PyObject *op, PyObject *arg)
{
    struct ring *ring = shared_queue_ring(op);
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
