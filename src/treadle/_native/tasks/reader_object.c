/* Reader: what iterates over a map.  Values that are there already are handed out here; all else is for Python. */
#include "tasks/inbox.h"
#include "tasks/tasks.h"

struct reader_object {
    PyObject_HEAD
    struct core_state *core;
    PyObject *inbox;      /* owned; NULL: every result is for Python */
    Py_ssize_t until_feed; /* results to hand out before Python is to look at the window.  Of the one thread that reads; a close
                              from elsewhere takes effect with the next result, or the one after it */
};

static int reader_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct reader_object *)op)->inbox);
    return 0;
}

static int reader_clear(PyObject *op)
{
    Py_CLEAR(((struct reader_object *)op)->inbox);
    return 0;
}

static void reader_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    reader_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *reader_next(PyObject *op)
{
    struct reader_object *self = (struct reader_object *)op;
    if (self->inbox != NULL && self->until_feed > 0) {
        PyObject *value = inbox_value(self->core, self->inbox);
        if (value != NULL) {
            self->until_feed--;
            return value;
        }
        if (PyErr_Occurred())
            return NULL;
    }
    return PyObject_CallMethod(op, "read_on", NULL);
}

static PyObject *reader_read_from(PyObject *op, PyObject *inbox)
{
    struct core_state *core = core_state_of(op);
    if (inbox != Py_None && Py_TYPE(inbox) != core->inbox_type) {
        PyErr_SetString(PyExc_TypeError, "a reader reads from an Inbox, or from None");
        return NULL;
    }
    ((struct reader_object *)op)->core = core;
    Py_XSETREF(((struct reader_object *)op)->inbox, inbox == Py_None ? NULL : Py_NewRef(inbox));
    Py_RETURN_NONE;
}

static PyMemberDef reader_members[] = {
    {"until_feed", T_PYSSIZET, offsetof(struct reader_object, until_feed), 0,
     "How many results may be handed out before `read_on` is called, if they are there."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef reader_methods[] = {
    {"read_from", reader_read_from, METH_O,
     "read_from($self, inbox, /)\n--\n\nPlain values are handed out from there; None: none are."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(reader_doc,
"An iterator over the results of a map.  What can't be had at once as a plain value is the affair of a subclass's\n"
"`read_on()`, which returns the next result or raises StopIteration.");

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},    {Py_tp_new, PyType_GenericNew},     {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},        {Py_tp_dealloc, reader_dealloc},    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, reader_next},      {Py_tp_members, reader_members},    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "treadle._native._core.Reader",
    .basicsize = sizeof(struct reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};

int core_add_reader(PyObject *module, struct core_state *Py_UNUSED(core))
{
    PyObject *type = PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    int rc = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return rc;
}
