/* See run.h. */
#include "tasks/run.h"
#include "values/items.h"
#include "values/pack.h"
#include "tasks/tasks.h"

#include <string.h>

/* -- Odd ----------------------------------------------------------------------------------------------------------------- */

PyObject *run_odd(struct core_state *core, int kind, PyObject *data)
{
    struct odd_object *self = (struct odd_object *)core->odd_type->tp_alloc(core->odd_type, 0);
    if (self == NULL)
        return NULL;
    self->kind = kind;
    self->data = Py_NewRef(data);
    return (PyObject *)self;
}

static int odd_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct odd_object *)op)->data);
    return 0;
}

static int odd_clear(PyObject *op)
{
    Py_CLEAR(((struct odd_object *)op)->data);
    return 0;
}

static void odd_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    odd_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef odd_members[] = {
    {"kind", T_INT, offsetof(struct odd_object, kind), READONLY, NULL},
    {"data", T_OBJECT, offsetof(struct odd_object, data), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot odd_slots[] = {
    {Py_tp_doc, (void *)"How one item of a run has ended that did not return a plain value."},
    {Py_tp_traverse, odd_traverse}, {Py_tp_clear, odd_clear}, {Py_tp_dealloc, odd_dealloc},
    {Py_tp_members, odd_members},   {0, NULL},
};

static PyType_Spec odd_spec = {
    .name = "treadle._native._core.Odd",
    .basicsize = sizeof(struct odd_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = odd_slots,
};

/* -- runs ---------------------------------------------------------------------------------------------------------------- */

PyObject *run_part(Py_ssize_t index, PyObject *values, long long nanoseconds)
{
    return Py_BuildValue("(nOL)", index, values, nanoseconds);
}

PyObject *run_make(struct core_state *core, PyObject *call, PyObject *sink, Py_ssize_t index, Py_ssize_t count, bool one)
{
    PyObject *args[4], *task;
    args[0] = call;
    args[1] = sink;
    args[2] = PyLong_FromSsize_t(index);
    args[3] = core->default_options;
    task = args[2] == NULL ? NULL : PyObject_Vectorcall((PyObject *)core->task_type, args, 4, NULL);
    Py_XDECREF(args[2]);
    if (task != NULL) {
        ((struct task_object *)task)->run = 1;
        ((struct task_object *)task)->one = one;
        ((struct task_object *)task)->count = count;
    }
    return task;
}

static struct task_object *as_run(PyObject *op)
{
    struct task_object *self = (struct task_object *)op;
    if (self->run)
        return self;
    PyErr_SetString(PyExc_ValueError, "this task is no run");
    return NULL;
}

PyObject *run_split(PyObject *op, PyObject *arg)
{
    struct core_state *core = PyType_GetModuleState(Py_TYPE(op));
    struct task_object *self = as_run(op);
    struct call_object *call;
    PyObject *args[7], *rest = NULL, *made = NULL, *old;
    const char *at, *end, *item;
    Py_ssize_t count = PyNumber_AsSsize_t(arg, PyExc_OverflowError), i, index;
    size_t length;
    if (self == NULL || (count == -1 && PyErr_Occurred()))
        return NULL;
    if (count < self->done || count >= self->count || !core_is_call(core, self->call)) {
        PyErr_SetString(PyExc_ValueError, "a run is split behind what is done, and before its end");
        return NULL;
    }
    call = (struct call_object *)self->call;
    index = PyLong_AsSsize_t(self->index);
    if (PyErr_Occurred() || values_count(core, call->args) < 0 || !PyBytes_Check(call->payload)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a run has a list of arguments, and their payloads");
        return NULL;
    }
    at = PyBytes_AS_STRING(call->payload);
    end = at + PyBytes_GET_SIZE(call->payload);
    for (i = 0; i < count; i++)
        if (!items_next(&at, end, &item, &length)) {
            PyErr_SetString(PyExc_ValueError, "a run's payload is damaged");
            return NULL;
        }
    args[0] = call->fn;
    args[1] = values_slice(core, call->args, count, values_count(core, call->args));
    args[2] = call->kwargs;
    args[3] = call->function;
    args[4] = PyBytes_FromStringAndSize(at, end - at);
    args[5] = call->context;
    args[6] = call->variables;
    if (args[1] != NULL && args[4] != NULL)
        made = PyObject_Vectorcall((PyObject *)core->call_type, args, 7, NULL);
    Py_XDECREF(args[1]);
    Py_XDECREF(args[4]);
    if (made != NULL)
        rest = run_make(core, made, self->sink, index + count, self->count - count, self->one);
    Py_XDECREF(made);
    if (rest == NULL)
        return NULL;
    self->count = count;
    old = self->rest;
    ((struct task_object *)rest)->rest = old; /* in the order of their items */
    self->rest = Py_NewRef(rest);
    return rest;
}

PyObject *run_ended(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = PyType_GetModuleState(Py_TYPE(op));
    struct task_object *self = as_run(op);
    PyObject *odd, *values, *part;
    Py_ssize_t count, index, i;
    long kind;
    if (self == NULL)
        return NULL;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "ended(kind, data, count)");
        return NULL;
    }
    kind = PyLong_AsLong(args[0]);
    count = PyNumber_AsSsize_t(args[2], PyExc_OverflowError);
    index = PyLong_AsSsize_t(self->index);
    if (PyErr_Occurred())
        return NULL;
    if (count < 0 || count > self->count - self->done) {
        PyErr_SetString(PyExc_ValueError, "so many items are not left");
        return NULL;
    }
    odd = run_odd(core, (int)kind, args[1]);
    values = odd == NULL ? NULL : PyList_New(count);
    for (i = 0; values != NULL && i < count; i++)
        PyList_SET_ITEM(values, i, Py_NewRef(odd));
    Py_XDECREF(odd);
    if (values == NULL)
        return NULL;
    part = run_part(index + self->done, values, 0);
    Py_DECREF(values);
    return part;
}

/* make_run(fn, items, function, payloads, sink, index): for tests; see inbox_object.c for what makes them otherwise. */
static PyObject *make_run(PyObject *module, PyObject *args)
{
    struct core_state *core = PyModule_GetState(module);
    PyObject *fn, *items, *function, *payloads, *sink, *values[5], *call, *task;
    Py_ssize_t index, i;
    char buffer[ITEMS_ROOM], *at;
    size_t used = 0;
    if (!PyArg_ParseTuple(args, "OO!OO!On:make_run", &fn, &PyList_Type, &items, &function, &PyList_Type, &payloads, &sink,
                          &index))
        return NULL;
    for (i = 0; i < PyList_GET_SIZE(payloads); i++) {
        PyObject *payload = PyList_GET_ITEM(payloads, i);
        at = PyBytes_Check(payload) ? items_put(buffer, &used, (size_t)PyBytes_GET_SIZE(payload)) : NULL;
        if (at == NULL) {
            PyErr_SetString(PyExc_ValueError, "too much for a run");
            return NULL;
        }
        memcpy(at, PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload));
    }
    values[0] = fn;
    values[1] = items;
    values[2] = Py_None;
    values[3] = function;
    values[4] = PyBytes_FromStringAndSize(buffer, (Py_ssize_t)used);
    call = values[4] == NULL ? NULL : PyObject_Vectorcall((PyObject *)core->call_type, values, 5, NULL);
    Py_XDECREF(values[4]);
    task = call == NULL ? NULL : run_make(core, call, sink, index, PyList_GET_SIZE(items), false);
    Py_XDECREF(call);
    return task;
}

static PyMethodDef functions[] = {
    {"make_run", make_run, METH_VARARGS,
     "make_run(fn, items, function, payloads, sink, index, /)\n--\n\n"
     "A run: one task of the items, which are tuples of arguments, with the payload of each."},
    {NULL, NULL, 0, NULL},
};

int core_add_run(PyObject *module, struct core_state *core)
{
    core->odd_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &odd_spec, NULL);
    if (core->odd_type == NULL || PyModule_AddType(module, core->odd_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
