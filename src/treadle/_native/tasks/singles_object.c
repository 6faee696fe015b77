/* Singles: the input of a map over one iterable.  It gives tuples of one, as zip() does; what makes runs takes the items
 * themselves, and makes no tuple of each. */
#include "tasks/inbox.h"
#include "tasks/tasks.h"

struct singles_object {
    PyObject_HEAD
    PyObject *items; /* owned: an iterator */
};

static int singles_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct singles_object *)op)->items);
    return 0;
}

static int singles_clear(PyObject *op)
{
    Py_CLEAR(((struct singles_object *)op)->items);
    return 0;
}

static void singles_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    singles_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *singles_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *iterable, *op;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Singles() takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:Singles", &iterable))
        return NULL;
    op = type->tp_alloc(type, 0);
    if (op != NULL && (((struct singles_object *)op)->items = PyObject_GetIter(iterable)) == NULL)
        Py_CLEAR(op);
    return op;
}

static PyObject *singles_next(PyObject *op)
{
    PyObject *items = ((struct singles_object *)op)->items, *item = items == NULL ? NULL : PyIter_Next(items), *tuple;
    if (item == NULL)
        return NULL;
    tuple = PyTuple_Pack(1, item);
    Py_DECREF(item);
    return tuple;
}

PyObject *singles_items(struct core_state *core, PyObject *op)
{
    return Py_TYPE(op) == core->singles_type ? ((struct singles_object *)op)->items : NULL;
}

static PyType_Slot singles_slots[] = {
    {Py_tp_doc, (void *)"Singles(iterable)\n--\n\nAn iterator over tuples of one item."},
    {Py_tp_new, singles_make},         {Py_tp_traverse, singles_traverse}, {Py_tp_clear, singles_clear},
    {Py_tp_dealloc, singles_dealloc},  {Py_tp_iter, PyObject_SelfIter},    {Py_tp_iternext, singles_next},
    {0, NULL},
};

static PyType_Spec singles_spec = {
    .name = "treadle._native._core.Singles",
    .basicsize = sizeof(struct singles_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = singles_slots,
};

int core_add_singles(PyObject *module, struct core_state *core)
{
    core->singles_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &singles_spec, NULL);
    return core->singles_type == NULL ? -1 : PyModule_AddType(module, core->singles_type);
}
