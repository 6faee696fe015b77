/* Known: a pickled function, remembered together with all that its pickle has taken along; see pool/functions.py. */
#include "pool/known.h"
#include "pool/pool.h"

struct known_object {
    PyObject_HEAD
    PyObject *fn;       /* held, so that its id is not another one's */
    PyObject *function; /* its pickle */
    PyObject *bindings; /* NULL: it travels by name; else a tuple of (place, name, value), see known_doc */
};

static int known_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct known_object *self = (struct known_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->fn);
    Py_VISIT(self->function);
    Py_VISIT(self->bindings);
    return 0;
}

static int known_clear(PyObject *op)
{
    struct known_object *self = (struct known_object *)op;
    Py_CLEAR(self->fn);
    Py_CLEAR(self->function);
    Py_CLEAR(self->bindings);
    return 0;
}

static void known_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    known_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *known_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct known_object *self;
    PyObject *fn, *function, *bindings;
    Py_ssize_t i;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Known() takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OOO:Known", &fn, &function, &bindings))
        return NULL;
    if (bindings != Py_None) {
        if (!PyTuple_CheckExact(bindings)) {
            PyErr_SetString(PyExc_TypeError, "bindings are a tuple, or None");
            return NULL;
        }
        for (i = 0; i < PyTuple_GET_SIZE(bindings); i++) {
            PyObject *each = PyTuple_GET_ITEM(bindings, i);
            if (!PyTuple_CheckExact(each) || PyTuple_GET_SIZE(each) != 3) {
                PyErr_SetString(PyExc_TypeError, "a binding is (place, name, value)");
                return NULL;
            }
        }
    }
    self = (struct known_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->fn = Py_NewRef(fn);
    self->function = Py_NewRef(function);
    self->bindings = bindings == Py_None ? NULL : Py_NewRef(bindings);
    return (PyObject *)self;
}

int known_find(PyObject *dict, PyObject *key, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyDict_GetItemRef(dict, key, found);
#else
    *found = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *found != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* What stands there now is only compared, never used: so it need not be held. */
static bool same(PyObject *now, PyObject *value) { return (now == NULL ? Py_None : now) == value; }

static bool holds(struct core_state *core, PyObject *binding)
{
    PyObject *place = PyTuple_GET_ITEM(binding, 0), *name = PyTuple_GET_ITEM(binding, 1);
    PyObject *value = PyTuple_GET_ITEM(binding, 2), *unbound = (PyObject *)core->known_type, *now = NULL;
    bool still;
    if (PyDict_CheckExact(place)) {
        if (known_find(place, name, &now) < 0)
            PyErr_Clear();
        still = (now == NULL ? unbound : now) == value;
        Py_XDECREF(now);
        return still;
    }
    if (PyCell_Check(place)) {
        now = PyCell_Get(place);
        still = (now == NULL ? unbound : now) == value;
        Py_XDECREF(now);
        return still;
    }
    if (PyFunction_Check(place) && PyTuple_CheckExact(value) && PyTuple_GET_SIZE(value) == 3)
        return same(PyFunction_GET_CODE(place), PyTuple_GET_ITEM(value, 0)) &&
               same(PyFunction_GET_DEFAULTS(place), PyTuple_GET_ITEM(value, 1)) &&
               same(PyFunction_GET_KW_DEFAULTS(place), PyTuple_GET_ITEM(value, 2));
    return false;
}

PyObject *known_function(struct core_state *core, PyObject *op)
{
    struct known_object *self = (struct known_object *)op;
    Py_ssize_t i;
    if (Py_TYPE(op) != core->known_type || self->function == NULL)
        return NULL;
    for (i = 0; self->bindings != NULL && i < PyTuple_GET_SIZE(self->bindings); i++)
        if (!holds(core, PyTuple_GET_ITEM(self->bindings, i)))
            return NULL;
    return self->function;
}

static PyObject *known_current(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *function = known_function(core_state_of(op), op);
    return Py_NewRef(function == NULL ? Py_None : function);
}

PyDoc_STRVAR(known_doc,
"Known(fn, function, bindings)\n--\n\n"
"A function and its pickle.  `bindings` is None if it travels by name, else a tuple of what it has taken along, each as\n"
"(place, name, value): a dict with its key, a cell with any name, or a function with any name and (code, defaults,\n"
"keyword defaults).  What was not bound has this class as its value.");

static PyMethodDef known_methods[] = {
    {"current", known_current, METH_NOARGS,
     "current($self, /)\n--\n\nThe pickle, if every name is still bound to the same object; else None."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot known_slots[] = {
    {Py_tp_doc, (void *)known_doc},   {Py_tp_new, known_make},         {Py_tp_traverse, known_traverse},
    {Py_tp_clear, known_clear},       {Py_tp_dealloc, known_dealloc},  {Py_tp_methods, known_methods},
    {0, NULL},
};

static PyType_Spec known_spec = {
    .name = "treadle._native._core.Known",
    .basicsize = sizeof(struct known_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = known_slots,
};

int core_add_known(PyObject *module, struct core_state *core)
{
    core->known_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &known_spec, NULL);
    return core->known_type == NULL ? -1 : PyModule_AddType(module, core->known_type);
}
