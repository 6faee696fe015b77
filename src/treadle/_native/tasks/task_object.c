/* Calls and tasks: structures, with the fields that pool/task.py explains. */
#include "tasks/task.h"
#include "tasks/future.h"
#include "tasks/run.h"
#include "tasks/tasks.h"

static struct core_state *module_state_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

/* Spread positional and keyword arguments over `count` values, of which the first `least` must be given. */
static int spread(const char *what, const char *const *names, size_t count, size_t least, PyObject *const *args,
                  size_t nargs, PyObject *kwnames, PyObject **values)
{
    size_t i;
    Py_ssize_t k, keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (i = 0; i < count; i++)
        values[i] = i < nargs ? args[i] : NULL;
    for (k = 0; k < keywords; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        for (i = 0; i < count; i++)
            if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
                break;
        if (i == count || values[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected or repeated argument '%U'", what, name);
            return -1;
        }
        values[i] = args[nargs + (size_t)k];
    }
    if (nargs > count || values[least - 1] == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zu to %zu arguments", what, least, count);
        return -1;
    }
    return 0;
}

/* -- Call -------------------------------------------------------------------------------------------------------------- */

static PyObject *call_make(PyObject *cls, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    static const char *const names[] = {"fn", "args", "kwargs", "function", "payload", "context", "variables"};
    PyTypeObject *type = (PyTypeObject *)cls;
    PyObject *values[7];
    struct call_object *self;
    if (spread("Call", names, 7, 3, args, (size_t)PyVectorcall_NARGS(nargsf), kwnames, values) < 0)
        return NULL;
    self = (struct call_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->fn = Py_NewRef(values[0]);
    self->args = Py_NewRef(values[1]);
    self->kwargs = Py_NewRef(values[2]);
    self->function = Py_NewRef(values[3] == NULL ? Py_None : values[3]);
    self->payload = Py_NewRef(values[4] == NULL ? Py_None : values[4]);
    self->context = Py_NewRef(values[5] == NULL ? Py_None : values[5]);
    self->variables = Py_NewRef(values[6] == NULL ? Py_None : values[6]);
    return (PyObject *)self;
}

static int call_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct call_object *self = (struct call_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->fn);
    Py_VISIT(self->args);
    Py_VISIT(self->kwargs);
    Py_VISIT(self->function);
    Py_VISIT(self->payload);
    Py_VISIT(self->context);
    Py_VISIT(self->variables);
    return 0;
}

static int call_clear(PyObject *op)
{
    struct call_object *self = (struct call_object *)op;
    Py_CLEAR(self->fn);
    Py_CLEAR(self->args);
    Py_CLEAR(self->kwargs);
    Py_CLEAR(self->function);
    Py_CLEAR(self->payload);
    Py_CLEAR(self->context);
    Py_CLEAR(self->variables);
    return 0;
}

static void call_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    call_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

#define FIELD(type, name, flags) {#name, T_OBJECT_EX, offsetof(struct type, name), flags, NULL}
static PyMemberDef call_members[] = {
    FIELD(call_object, fn, READONLY),
    FIELD(call_object, args, 0),
    FIELD(call_object, kwargs, READONLY),
    FIELD(call_object, function, READONLY),
    FIELD(call_object, payload, 0),
    FIELD(call_object, context, READONLY),
    FIELD(call_object, variables, READONLY),
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(call_doc,
"Call(fn, args, kwargs, function=None, payload=None, context=None, variables=None)\n--\n\n"
"A function and its arguments, and for a process their pickled form.\n\n"
"`function` and `payload` are None where only the thread engine will run it.  `context` is that of the submit, None if no\n"
"variable was set in it; `variables` is the same for a process.");

static PyType_Slot call_slots[] = {
    {Py_tp_doc, (void *)call_doc}, {Py_tp_traverse, call_traverse}, {Py_tp_clear, call_clear},
    {Py_tp_dealloc, call_dealloc}, {Py_tp_members, call_members},   {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "treadle._native._core.Call",
    .basicsize = sizeof(struct call_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = call_slots,
};

/* -- Task -------------------------------------------------------------------------------------------------------------- */

static PyObject *task_make(PyObject *cls, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    static const char *const names[] = {"call", "sink", "index", "options"};
    PyTypeObject *type = (PyTypeObject *)cls;
    struct core_state *state = module_state_of(type);
    PyObject *values[4];
    struct task_object *self;
    if (spread("Task", names, 4, 2, args, (size_t)PyVectorcall_NARGS(nargsf), kwnames, values) < 0)
        return NULL;
    if (values[3] == NULL && (values[3] = state->default_options) == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.pool.task is not imported");
        return NULL;
    }
    self = (struct task_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->call = Py_NewRef(values[0]);
    self->sink = Py_NewRef(values[1]);
    self->index = Py_NewRef(values[2] == NULL ? Py_None : values[2]);
    self->options = Py_NewRef(values[3]);
    self->count = 1;
    return (PyObject *)self;
}

static int task_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct task_object *self = (struct task_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->call);
    Py_VISIT(self->sink);
    Py_VISIT(self->index);
    Py_VISIT(self->options);
    Py_VISIT(self->more);
    Py_VISIT(self->rest);
    return 0;
}

static int task_clear(PyObject *op)
{
    struct task_object *self = (struct task_object *)op;
    Py_CLEAR(self->call);
    Py_CLEAR(self->sink);
    Py_CLEAR(self->index);
    Py_CLEAR(self->options);
    Py_CLEAR(self->worker);
    Py_CLEAR(self->pid);
    Py_CLEAR(self->more);
    Py_CLEAR(self->rest);
    return 0;
}

static void task_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    task_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *task_get_item(PyObject *op, void *Py_UNUSED(closure))
{
    struct core_state *state = module_state_of(Py_TYPE(op));
    PyObject *call = Py_NewRef(((struct task_object *)op)->call), *item;
    if (!core_is_call(state, call)) {
        PyErr_SetString(PyExc_TypeError, "the call of a task is a Call");
        Py_DECREF(call);
        return NULL;
    }
    item = ((struct call_object *)call)->args;
    if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 1) {
        PyObject *kwargs = ((struct call_object *)call)->kwargs;
        if (!PyDict_Check(kwargs) || PyDict_GET_SIZE(kwargs) == 0)
            item = PyTuple_GET_ITEM(item, 0);
    }
    Py_INCREF(item);
    Py_DECREF(call);
    return item;
}

static PyObject *task_repr(PyObject *op)
{
    static const char *const states[] = {"new", "queued", "assigned", "done", "waiting"};
    struct core_state *state = module_state_of(Py_TYPE(op));
    struct task_object *self = (struct task_object *)op;
    PyObject *fn = core_is_call(state, self->call) ? ((struct call_object *)self->call)->fn : Py_None, *name, *text;
    name = PyObject_GetAttrString(fn, "__name__");
    if (name == NULL) {
        PyErr_Clear();
        name = PyObject_Repr(fn);
        if (name == NULL)
            return NULL;
    }
    text = PyUnicode_FromFormat("<Task %S index=%S state=%s>", name, self->index, states[(unsigned)self->state % 5]);
    Py_DECREF(name);
    return text;
}

static PyMemberDef task_members[] = {
    FIELD(task_object, call, 0),
    FIELD(task_object, sink, 0),
    FIELD(task_object, index, READONLY),
    FIELD(task_object, options, 0),
    {"worker", T_OBJECT, offsetof(struct task_object, worker), 0, "None, or the worker that has it."},
    {"pid", T_OBJECT, offsetof(struct task_object, pid), 0, "Of the process that ran the last attempt, or None."},
    {"more", T_OBJECT, offsetof(struct task_object, more), 0, "What few tasks need: None, or anything."},
    {"state", T_INT, offsetof(struct task_object, state), 0, NULL},
    {"attempts", T_INT, offsetof(struct task_object, attempts), 0, NULL},
    {"losses", T_INT, offsetof(struct task_object, losses), 0, NULL},
    {"run", T_BOOL, offsetof(struct task_object, run), READONLY, "Is it a run of several items?"},
    {"cut", T_BOOL, offsetof(struct task_object, cut), 0, "A run: has its worker more items, which were taken back?"},
    {"count", T_PYSSIZET, offsetof(struct task_object, count), READONLY, "How many items it has."},
    {"done", T_PYSSIZET, offsetof(struct task_object, done), 0, "A run: how many of its items have ended."},
    {"first", T_LONGLONG, offsetof(struct task_object, first), READONLY, "A run: the number of its first item."},
    {"rest", T_OBJECT, offsetof(struct task_object, rest), READONLY, "A run: what was split off from it, or None."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef task_getset[] = {
    {"item", task_get_item, NULL, "The input as its user thinks of it: the one argument, or the tuple of them.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef task_methods[] = {
    {"split", run_split, METH_O,
     "split($self, count, /)\n--\n\nA run keeps so many items; the others as a new run, for the same sink."},
    {"ended", FAST(run_ended), METH_FASTCALL,
     "ended($self, kind, data, count, /)\n--\n\nWhat a run's sink is told when its next `count` items have ended so."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(task_doc,
"Task(call, sink, index=None, options=DEFAULT)\n--\n\n"
"What the pool knows of one call, from submit to its single end; see pool/task.py.");

static PyType_Slot task_slots[] = {
    {Py_tp_doc, (void *)task_doc}, {Py_tp_traverse, task_traverse}, {Py_tp_clear, task_clear},
    {Py_tp_dealloc, task_dealloc}, {Py_tp_members, task_members},   {Py_tp_getset, task_getset},
    {Py_tp_repr, task_repr},       {Py_tp_methods, task_methods},   {0, NULL},
};

static PyType_Spec task_spec = {
    .name = "treadle._native._core.Task",
    .basicsize = sizeof(struct task_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = task_slots,
};

/* -- settling ---------------------------------------------------------------------------------------------------------- */

static PyObject *settle(PyObject *module, PyObject *ends)
{
    struct core_state *state = PyModule_GetState(module);
    Py_ssize_t i;
    if (!PyList_Check(ends)) {
        PyErr_SetString(PyExc_TypeError, "ends is a list");
        return NULL;
    }
    for (i = 0; i < PyList_GET_SIZE(ends); i++) {
        PyObject *end = PyList_GetItem(ends, i);
        long kind;
        if (end == NULL)
            return NULL;
        if (!PyTuple_Check(end) || PyTuple_GET_SIZE(end) != 3) {
            PyErr_SetString(PyExc_TypeError, "an end is (task, kind, data)");
            return NULL;
        }
        kind = PyLong_AsLong(PyTuple_GET_ITEM(end, 1));
        if (kind == -1 && PyErr_Occurred())
            return NULL;
        Py_INCREF(end);
        core_settle_one(state, PyTuple_GET_ITEM(end, 0), (int)kind, PyTuple_GET_ITEM(end, 2));
        Py_DECREF(end);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"settle", settle, METH_O,
     "settle(ends, /)\n--\n\nDeliver each (task, kind, data): here where it is simple, else by the hook deliver."},
    {NULL, NULL, 0, NULL},
};

int core_add_task(PyObject *module, struct core_state *state)
{
    state->call_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, NULL);
    if (state->call_type == NULL || PyModule_AddType(module, state->call_type) < 0)
        return -1;
    state->call_type->tp_vectorcall = call_make;
    state->task_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &task_spec, NULL);
    if (state->task_type == NULL || PyModule_AddType(module, state->task_type) < 0)
        return -1;
    state->task_type->tp_vectorcall = task_make;
    return PyModule_AddFunctions(module, functions);
}
