/* Store and Parcel; see store.h. */
#include "values/store.h"
#include "values/values.h"
#include "system/points.h"

#include <errno.h>

struct store_object {
    PyObject_HEAD
    struct ring ring;
    bool made;
    _Atomic uint32_t stamp;
};

struct parcel_object {
    PyObject_HEAD
    PyObject *store; /* owned */
    struct store_place place;
    bool ours;     /* the cell is to be given back with this object */
    bool may_take; /* it may be taken by who loads it */
};

static struct ring *ring_of(PyObject *store) { return &((struct store_object *)store)->ring; }

/* -- Parcel ------------------------------------------------------------------------------------------------------------ */

PyObject *store_parcel(struct core_state *state, PyObject *store, const struct store_place *place, bool may_take)
{
    struct parcel_object *self = PyObject_New(struct parcel_object, state->parcel_type);
    if (self == NULL)
        return NULL;
    self->store = Py_NewRef(store);
    self->place = *place;
    self->ours = false;
    self->may_take = may_take;
    return (PyObject *)self;
}

struct store_place store_place_of(PyObject *parcel) { return ((struct parcel_object *)parcel)->place; }

void store_sent(PyObject *parcel) { ((struct parcel_object *)parcel)->ours = false; }

/* Does the cell still have what this parcel is about? */
static bool is_there(struct parcel_object *self)
{
    struct ring *ring = ring_of(self->store);
    return self->place.cell < atomic_load(&ring->head->cells) &&
           atomic_load(&cell_at(ring, self->place.cell)->word) == self->place.word &&
           atomic_load(&cell_at(ring, self->place.cell)->attempt) == self->place.stamp;
}

/* From the writer's hands, or wherever it is, into those of this process. */
static bool take(struct parcel_object *self)
{
    uint64_t word = tl_process_token() | CELL_TAKEN;
    if (!is_there(self) || !cell_turn(ring_of(self->store), self->place.cell, self->place.word, word))
        return false;
    TL_POINT("store.taken");
    self->place.word = word;
    self->ours = true;
    return true;
}

bool store_receive(PyObject *parcel)
{
    struct parcel_object *self = (struct parcel_object *)parcel;
    self->may_take = true;
    return take(self);
}

static void parcel_dealloc(PyObject *op)
{
    struct parcel_object *self = (struct parcel_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    /* In a fork the word names the parent, and so it is not ours to give back. */
    if (self->ours && (self->place.word & TL_OWNER_MASK) == tl_process_token() && is_there(self))
        cell_release(ring_of(self->store), self->place.cell);
    Py_DECREF(self->store);
    PyObject_Free(op);
    Py_DECREF(type);
}

PyObject *store_load(struct core_state *state, PyObject *parcel)
{
    struct parcel_object *self = (struct parcel_object *)parcel;
    bool lent = false, mine;
    PyObject *value;
    if (!is_there(self)) {
        PyErr_SetString(PyExc_RuntimeError, "a large payload was loaded before, and is gone");
        return NULL;
    }
    mine = self->may_take && (self->ours || take(self));
    value = parcel_unpack_cell(state, self->store, ring_of(self->store), self->place.cell, PARCEL_BUFFERS,
                               (size_t)self->place.size, mine ? self->place.word : 0, &lent);
    if (lent)
        self->ours = false;
    return value;
}

static Py_ssize_t parcel_length(PyObject *op) { return (Py_ssize_t)((struct parcel_object *)op)->place.size; }

static PyType_Slot parcel_slots[] = {
    {Py_tp_dealloc, parcel_dealloc},
    {Py_sq_length, parcel_length},
    {0, NULL},
};

static PyType_Spec parcel_spec = {
    .name = "treadle._native._core.Parcel",
    .basicsize = sizeof(struct parcel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = parcel_slots,
};

/* -- Store ------------------------------------------------------------------------------------------------------------- */

static PyObject *store_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct store_object *self;
    struct tl_segment *segment;
    int fd = -1, error;
    if (!PyArg_ParseTuple(args, "|i:Store", &fd))
        return NULL;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Store() takes no keywords");
        return NULL;
    }
    if (core_self() == NULL || tl_process_token() == 0)
        return PyErr_Occurred() ? NULL : core_no_record();
    self = (struct store_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (fd < 0) {
        error = ring_new(&self->ring, 0, 0);
    } else {
        segment = tl_segment_take(fd);
        error = segment == NULL ? errno : ring_open(&self->ring, segment);
    }
    self->made = error == 0;
    if (error == 0)
        return (PyObject *)self;
    Py_DECREF(self);
    return core_failed(error);
}

static void store_dealloc(PyObject *op)
{
    struct store_object *self = (struct store_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->made)
        ring_close(&self->ring);
    type->tp_free(op);
    Py_DECREF(type);
}

/* Write it into a cell. */
static PyObject *put_aside(struct core_state *state, PyObject *op, const struct parcel *parcel)
{
    struct store_object *self = (struct store_object *)op;
    struct store_place place = {.size = parcel->size};
    tl_token me = tl_process_token();
    PyObject *made;
    int error = cell_claim(&self->ring, me, parcel->size, &place.cell);
    if (error != 0)
        return core_failed(error);
    place.word = me | CELL_FILLING;
    place.stamp = atomic_fetch_add(&self->stamp, 1) ^ (uint32_t)me;
    atomic_store(&cell_at(&self->ring, place.cell)->attempt, place.stamp);
    error = parcel_write(parcel, &self->ring, place.cell);
    TL_POINT("store.written");
    if (error != 0) {
        cell_fail(&self->ring, place.cell);
        return core_failed(error);
    }
    made = store_parcel(state, op, &place, false);
    if (made == NULL)
        cell_release(&self->ring, place.cell);
    else
        ((struct parcel_object *)made)->ours = true;
    return made;
}

/* dumps(value): bytes, or a Parcel if that would be large. */
static PyObject *store_dumps(PyObject *op, PyObject *value)
{
    struct core_state *state = core_state_of(op);
    char small[CODEC_ROOM];
    struct parcel parcel;
    PyObject *pair, *made;
    Py_ssize_t size = codec_encode(value, small, sizeof small);
    if (size >= 0)
        return PyBytes_FromStringAndSize(small, size);
    if (state->pack_apart == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.pool.payloads is not imported");
        return NULL;
    }
    pair = PyObject_CallOneArg(state->pack_apart, value);
    if (pair == NULL)
        return NULL;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(pair, 0)) ||
        !PyList_Check(PyTuple_GET_ITEM(pair, 1))) {
        PyErr_SetString(PyExc_TypeError, "the hook pack_apart returns bytes and a list");
        Py_DECREF(pair);
        return NULL;
    }
    if (PyList_GET_SIZE(PyTuple_GET_ITEM(pair, 1)) == 0 &&
        PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 0)) < (Py_ssize_t)STORE_LEAST) {
        made = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
        Py_DECREF(pair);
        return made;
    }
    if (parcel_pack_apart(&parcel, pair) < 0) /* it has the pair */
        return NULL;
    made = put_aside(state, op, &parcel);
    parcel_drop(&parcel);
    return made;
}

static PyObject *store_bury(PyObject *op, PyObject *arg)
{
    struct ring *ring = ring_of(op);
    unsigned long long token = PyLong_AsUnsignedLongLong(arg);
    uint32_t i;
    if (PyErr_Occurred())
        return NULL;
    if (token != 0 && token != tl_process_token())
        for (i = 0; i < atomic_load(&ring->head->cells); i++)
            if ((atomic_load(&cell_at(ring, i)->word) & TL_OWNER_MASK) == token)
                cell_release(ring, i);
    Py_RETURN_NONE;
}

static PyObject *store_trim(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = ring_of(op);
    cells_trim(ring, tl_process_token(), false);
    return PyLong_FromLongLong(atomic_load(&ring->head->spare));
}

static PyObject *store_used(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ring *ring = ring_of(op);
    uint32_t i;
    long used = 0;
    for (i = 0; i < atomic_load(&ring->head->cells); i++)
        used += atomic_load(&cell_at(ring, i)->word) != CELL_FREE;
    return PyLong_FromLong(used);
}

static PyObject *get_descriptor(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(ring_of(op)->segment->fd);
}

PyDoc_STRVAR(store_doc,
"Store(descriptor=-1)\n--\n\n"
"Where large payloads lie: a new store, or the one that another process has made, by a descriptor, which is taken over.\n"
"Any thread may use it.  OSError or MemoryError if there is no memory for it.");
PyDoc_STRVAR(dumps_doc,
"dumps($self, value, /)\n--\n\n"
"As payload_dumps, but what is large is written into the store, and is a `Parcel`.  OSError or MemoryError if the store\n"
"has no memory for it.");
PyDoc_STRVAR(bury_doc,
"bury($self, token, /)\n--\n\nThe process of that token is dead, and all that it sent has been received: free what it had.");
PyDoc_STRVAR(trim_doc,
"trim($self, /)\n--\n\nIf nothing was stored for a moment, give unused memory back.  Returns how many bytes are kept.");
PyDoc_STRVAR(used_doc, "used($self, /)\n--\n\nHow many payloads are in it, or lent.");

static PyMethodDef store_methods[] = {
    {"dumps", store_dumps, METH_O, dumps_doc},
    {"bury", store_bury, METH_O, bury_doc},
    {"trim", store_trim, METH_NOARGS, trim_doc},
    {"used", store_used, METH_NOARGS, used_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef store_getset[] = {
    {"descriptor", get_descriptor, NULL, "By which another process can open it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot store_slots[] = {
    {Py_tp_doc, (void *)store_doc},   {Py_tp_new, store_make},         {Py_tp_dealloc, store_dealloc},
    {Py_tp_methods, store_methods},   {Py_tp_getset, store_getset},    {0, NULL},
};

static PyType_Spec store_spec = {
    .name = "treadle._native._core.Store",
    .basicsize = sizeof(struct store_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = store_slots,
};

int core_add_store(PyObject *module, struct core_state *state)
{
    state->parcel_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &parcel_spec, NULL);
    state->store_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &store_spec, NULL);
    if (state->parcel_type == NULL || state->store_type == NULL)
        return -1;
    return PyModule_AddType(module, state->store_type) < 0 ? -1 : PyModule_AddType(module, state->parcel_type);
}
