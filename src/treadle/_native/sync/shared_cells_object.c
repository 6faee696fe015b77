/* Cells: a few bytes in shared memory, for values that are too small for a segment of their own. */
#include "sync/shared_object.h"


#define SIZE (TL_CELLS * sizeof(uint64_t))

static int cells_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct shared_object *self = (struct shared_object *)op;
    static char *names[] = {NULL};
    uint32_t i;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":SharedCells", names) || shared_make_plain(op, TL_SLOT_CELLS) < 0)
        return -1;
    for (i = 0; i < TL_CELLS; i++)
        atomic_store_explicit(&self->slot->cells[i], 0, memory_order_relaxed);
    return 0;
}

/* The view keeps the object, and so the slot. */
static int cells_buffer(PyObject *op, Py_buffer *view, int flags)
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self)) {
        view->obj = NULL;
        return -1;
    }
    return PyBuffer_FillInfo(view, op, (void *)self->slot->cells, (Py_ssize_t)SIZE, 0, flags);
}

static PyObject *cells_repr(PyObject *Py_UNUSED(op))
{
    return PyUnicode_FromFormat("<treadle.SharedCells of %zu bytes>", SIZE);
}

static PyObject *no_name(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE; /* the bytes are where other objects have their name */
}

PyDoc_STRVAR(cells_doc,
"SharedCells()\n--\n\n"
"240 bytes of shared memory, all zero, with the buffer protocol; pickle it to send it to a process of this session.\n\n"
"MemoryError or OSError if there is no room for it.  Freed with its last user.");

static PyGetSetDef getset[] = {
    {"name", no_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)cells_doc},     {Py_tp_init, cells_init},       {Py_tp_repr, cells_repr},
    {Py_tp_getset, getset},             {Py_tp_traverse, open_traverse}, {Py_tp_clear, open_clear},
    {Py_tp_dealloc, shared_dealloc},    {Py_tp_members, open_members},  {Py_bf_getbuffer, cells_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._native._core.SharedCells",
    .basicsize = sizeof(struct shared_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_shared_cells(PyObject *module, struct core_state *state)
{
    PyTypeObject *type = shared_add_type(module, &spec, state->shared_type, "SharedCells");
    int error = type == NULL || PyModule_AddIntConstant(module, "CELLS_SIZE", (long)SIZE) < 0 ? -1 : 0;
    Py_XDECREF(type);
    return error;
}
