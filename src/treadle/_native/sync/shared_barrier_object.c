/* Barrier in shared memory: see rounds.h. */
#include "python/arguments.h"
#include "sync/shared_object.h"
#include "system/points.h"
#include "memory/rounds.h"

#include <string.h>

struct barrier_object {
    struct shared_object base;
    /* The slots that have its cells, which this process holds as it does the barrier's own. */
    struct cells { uint32_t number, generation; } *cells;
    uint32_t cells_count;
};

struct barrier_wait {
    struct wait wait;
    struct shared_object *barrier;
    struct tl_party party;
    bool arrived;
};

static void drop_cells(struct barrier_object *self)
{
    while (self->cells_count > 0) {
        struct cells *cells = &self->cells[--self->cells_count];
        tl_arena_drop(cells->number, cells->generation);
    }
    PyMem_Free(self->cells);
    self->cells = NULL;
}

static void barrier_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    drop_cells((struct barrier_object *)op);
    shared_dealloc(op);
}

static int room_for_cells(struct barrier_object *self, uint32_t count)
{
    drop_cells(self);
    self->cells = PyMem_Calloc(count, sizeof *self->cells);
    if (self->cells != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* _open(parties, name) */
static PyObject *barrier_open(PyObject *op, PyObject *args)
{
    struct barrier_object *self = (struct barrier_object *)op;
    PyObject *name;
    int parties;
    uint32_t count, i;
    if (!PyArg_ParseTuple(args, "iO:Barrier", &parties, &name))
        return NULL;
    if (parties < 1) {
        PyErr_SetString(PyExc_ValueError, "parties must be >= 1");
        return NULL;
    }
    count = ((uint32_t)parties + TL_CELLS - 2) / (TL_CELLS - 1);
    if (shared_make(op, TL_SLOT_BARRIER, name) < 0 || room_for_cells(self, count) < 0)
        return NULL;
    for (i = 0; i < count; i++) {
        int error = tl_arena_new(TL_SLOT_CELLS, &self->cells[i].number, &self->cells[i].generation);
        if (error != 0) {
            shared_error(error);
            return NULL;
        }
        self->cells_count++;
        tl_rounds_chain(self->cells[i].number, i == 0 ? 0 : self->cells[i - 1].number);
    }
    tl_rounds_init(self->base.number, (uint32_t)parties, self->cells[count - 1].number);
    Py_RETURN_NONE;
}

/* _cells() -> the slots of its cells; also keeps them alive for the pickle that they go into. */
static PyObject *barrier_cells(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct barrier_object *self = (struct barrier_object *)op;
    PyObject *list;
    uint32_t i;
    if (!shared_ready(&self->base) || (list = PyList_New(self->cells_count)) == NULL)
        return NULL;
    for (i = 0; i < self->cells_count; i++) {
        PyObject *pair = Py_BuildValue("(II)", self->cells[i].number, self->cells[i].generation);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, pair);
    }
    for (i = 0; i < self->cells_count; i++)
        tl_arena_sent(self->cells[i].number);
    return list;
}

static PyObject *barrier_receive_cells(PyObject *op, PyObject *list)
{
    struct barrier_object *self = (struct barrier_object *)op;
    Py_ssize_t i, count = PyList_Check(list) ? PyList_GET_SIZE(list) : -1;
    if (count < 0) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    if (room_for_cells(self, (uint32_t)count) < 0)
        return NULL;
    for (i = 0; i < count; i++) {
        unsigned int number, generation;
        int error;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "II", &number, &generation))
            return NULL;
        error = tl_arena_attach(number, generation);
        if (error != 0) {
            shared_error(error);
            return NULL;
        }
        tl_arena_received(number);
        self->cells[i].number = number;
        self->cells[i].generation = generation;
        self->cells_count++;
    }
    Py_RETURN_NONE;
}

static uint32_t parties_of(struct shared_object *self)
{
    return atomic_load(&self->slot->u.barrier.parties);
}

static bool look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct barrier_wait *w = (struct barrier_wait *)wait;
    struct shared_object *self = w->barrier;
    uint32_t round;
    (void)entitled;
    if (!w->arrived) {
        switch (tl_rounds_arrive(self->number, me->token, &w->party)) {
        case TL_IS_BROKEN: return true;
        case TL_FULL:
            if (inspect && tl_rounds_last_died(self->number, &round))
                tl_rounds_end(self->number, self->id, round, TL_BROKEN);
            return false;
        case TL_ARRIVED: w->arrived = true;
        }
        if (w->party.index + 1 == parties_of(self))
            return true;
    }
    if (inspect && tl_rounds_neighbour_died(self->number, &w->party))
        tl_rounds_end(self->number, self->id, w->party.round, TL_BROKEN);
    return tl_rounds_outcome(self->number, w->party.round) != TL_OPEN;
}

static void describe(struct wait *wait, char *text, size_t size)
{
    shared_describe((PyObject *)((struct barrier_wait *)wait)->barrier, "Barrier", text, size);
}

/* _wait(action, timeout) -> a number from 0 to parties - 1; None if the barrier is or got broken, or was reset. */
static PyObject *barrier_wait(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    PyObject *action, *limit, *answer = NULL;
    struct barrier_wait w;
    enum wait_result result = WAIT_GOT;
    enum tl_outcome outcome;
    int64_t timeout;
    if (me == NULL || !shared_ready(self) || !PyArg_ParseTuple(args, "OO:_wait", &action, &limit) ||
        core_timeout(limit, &timeout) < 0)
        return NULL;
    memset(&w, 0, sizeof w);
    w.wait.object = self->id;
    w.wait.flags = TL_BARRIER << TL_KIND_SHIFT;
    w.wait.look = look;
    w.wait.describe = describe;
    w.barrier = self;
    if (!look(&w.wait, me, false, false)) {
        TL_POINT("barrier.wait.arrived");
        result = core_wait(core_state_of(op), &w.wait, timeout);
    }
    if (!w.arrived) {
        if (result == WAIT_ERROR)
            return NULL;
        Py_RETURN_NONE;
    }
    outcome = tl_rounds_outcome(self->number, w.party.round);
    if (outcome == TL_OPEN) {
        if (w.party.index + 1 < parties_of(self)) {
            /* Out of time, or interrupted: the others wait in vain. */
            outcome = tl_rounds_end(self->number, self->id, w.party.round, TL_BROKEN);
        } else {
            answer = action == Py_None ? Py_NewRef(Py_None) : PyObject_CallNoArgs(action);
            if (answer == NULL)
                result = WAIT_ERROR;
            Py_XDECREF(answer);
            TL_POINT("barrier.wait.acted");
            outcome = tl_rounds_end(self->number, self->id, w.party.round, answer != NULL ? TL_THROUGH : TL_BROKEN);
        }
    }
    if (result == WAIT_ERROR)
        return NULL;
    if (outcome != TL_THROUGH)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(w.party.index);
}

static PyObject *barrier_reset(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    tl_rounds_force(self->number, self->id, TL_RESET);
    Py_RETURN_NONE;
}

static PyObject *barrier_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    tl_rounds_force(self->number, self->id, TL_BROKEN);
    Py_RETURN_NONE;
}

static PyObject *barrier_get_parties(PyObject *op, void *Py_UNUSED(closure))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(parties_of(self)) : NULL;
}

static PyObject *barrier_get_waiting(PyObject *op, void *Py_UNUSED(closure))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(tl_rounds_arrived(self->number)) : NULL;
}

static PyObject *barrier_get_broken(PyObject *op, void *Py_UNUSED(closure))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyBool_FromLong(tl_rounds_broken(atomic_load(&self->slot->u.barrier.word))) : NULL;
}

PyDoc_STRVAR(reset_doc,
"reset($self, /)\n--\n\n"
"Back to empty: whoever waits gets BrokenBarrierError, and the barrier is no longer broken.");
PyDoc_STRVAR(abort_doc,
"abort($self, /)\n--\n\nBreak the barrier: wait() raises BrokenBarrierError from now on, until reset().");

static PyMethodDef methods[] = {
    {"reset", barrier_reset, METH_NOARGS, reset_doc},
    {"abort", barrier_abort, METH_NOARGS, abort_doc},
    {"_wait", barrier_wait, METH_VARARGS, NULL},
    {"_open", barrier_open, METH_VARARGS, NULL},
    {"_cells", barrier_cells, METH_NOARGS, NULL},
    {"_receive_cells", barrier_receive_cells, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"parties", barrier_get_parties, NULL, "How many it takes.", NULL},
    {"n_waiting", barrier_get_waiting, NULL, "How many wait now.", NULL},
    {"broken", barrier_get_broken, NULL, "Whether it is broken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},  {Py_tp_getset, getset},           {Py_tp_traverse, open_traverse},
    {Py_tp_clear, open_clear}, {Py_tp_dealloc, barrier_dealloc}, {Py_tp_members, open_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._native._core.SharedBarrier",
    .basicsize = sizeof(struct barrier_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_shared_barrier(PyObject *module, struct core_state *state)
{
    PyTypeObject *type = shared_add_type(module, &spec, state->shared_type, "SharedBarrier");
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
