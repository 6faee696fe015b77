/* See pack.h. */
#include "values/pack.h"
#include "values/codec.h"
#include "values/items.h"
#include "values/values.h"

static struct pack_object *as_pack(PyObject *op) { return (struct pack_object *)op; }

PyObject *pack_make(struct core_state *core, PyObject *bytes, size_t from, Py_ssize_t count)
{
    struct pack_object *self = PyObject_New(struct pack_object, core->pack_type);
    if (self == NULL)
        return NULL;
    self->bytes = Py_NewRef(bytes);
    self->from = from;
    self->count = count;
    return (PyObject *)self;
}

static void pack_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_DECREF(as_pack(op)->bytes);
    PyObject_Free(op);
    Py_DECREF(type);
}

bool pack_next(PyObject *op, size_t *at, const char **data, size_t *length)
{
    PyObject *bytes = as_pack(op)->bytes;
    const char *begin = PyBytes_AS_STRING(bytes), *here = begin + *at;
    if (!items_next(&here, begin + PyBytes_GET_SIZE(bytes), data, length))
        return false;
    *at = (size_t)(here - begin);
    return true;
}

/* Have the cursor come to the value with that index; false with an exception. */
static bool find(PyObject *op, Py_ssize_t index, struct pack_cursor *cursor)
{
    const char *data;
    size_t length;
    if (cursor->index == 0 || cursor->index > index)
        *cursor = (struct pack_cursor){0, as_pack(op)->from};
    for (; cursor->index < index; cursor->index++)
        if (!pack_next(op, &cursor->at, &data, &length)) {
            PyErr_SetString(PyExc_SystemError, "a pack has fewer values than it says");
            return false;
        }
    return true;
}

static Py_ssize_t pack_length(PyObject *op) { return as_pack(op)->count; }

static PyObject *item(PyObject *op, Py_ssize_t index, struct pack_cursor *cursor)
{
    const char *data;
    size_t at, length;
    if (index < 0 || index >= as_pack(op)->count) {
        PyErr_SetString(PyExc_IndexError, "a pack has no value with that index");
        return NULL;
    }
    if (!find(op, index, cursor))
        return NULL;
    at = cursor->at;
    if (!pack_next(op, &at, &data, &length)) {
        PyErr_SetString(PyExc_SystemError, "a pack has fewer values than it says");
        return NULL;
    }
    return codec_decode(data, length);
}

static PyObject *pack_item(PyObject *op, Py_ssize_t index)
{
    struct pack_cursor cursor = {0};
    return item(op, index, &cursor);
}

Py_ssize_t values_count(struct core_state *core, PyObject *values)
{
    if (core_is_pack(core, values))
        return as_pack(values)->count;
    if (PyList_Check(values))
        return PyList_GET_SIZE(values);
    PyErr_SetString(PyExc_TypeError, "values are a list, or a Pack");
    return -1;
}

PyObject *values_item(struct core_state *core, PyObject *values, Py_ssize_t index, struct pack_cursor *cursor)
{
    if (core_is_pack(core, values))
        return item(values, index, cursor);
    if (PyList_Check(values) && index < PyList_GET_SIZE(values))
        return Py_NewRef(PyList_GET_ITEM(values, index));
    PyErr_SetString(PyExc_SystemError, "there is no such value");
    return NULL;
}

PyObject *values_slice(struct core_state *core, PyObject *values, Py_ssize_t from, Py_ssize_t to)
{
    struct pack_cursor cursor = {0};
    if (!core_is_pack(core, values))
        return PyList_GetSlice(values, from, to);
    if (to > as_pack(values)->count)
        to = as_pack(values)->count;
    return find(values, from, &cursor) ? pack_make(core, as_pack(values)->bytes, cursor.at, to - from) : NULL;
}

static PyType_Slot pack_slots[] = {
    {Py_tp_doc, (void *)"Plain values of a run, as bytes until they are wanted."},
    {Py_tp_dealloc, pack_dealloc},
    {Py_sq_length, pack_length},
    {Py_sq_item, pack_item},
    {0, NULL},
};

static PyType_Spec pack_spec = {
    .name = "treadle._native._core.Pack",
    .basicsize = sizeof(struct pack_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pack_slots,
};

int core_add_pack(PyObject *module, struct core_state *core)
{
    core->pack_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pack_spec, NULL);
    return core->pack_type == NULL ? -1 : PyModule_AddType(module, core->pack_type);
}
