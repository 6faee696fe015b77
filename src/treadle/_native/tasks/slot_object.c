/* See slot.h. */
#include "tasks/slot.h"
#include "tasks/inbox.h"
#include "tasks/tasks.h"

static int slot_init(PyObject *op, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    struct core_state *core = core_state_of(op);
    PyObject *inbox;
    Py_ssize_t index;
    if (!PyArg_ParseTuple(args, "O!n:Slot", core->inbox_type, &inbox, &index))
        return -1;
    Py_XSETREF(as_slot(op)->inbox, Py_NewRef(inbox));
    as_slot(op)->index = index;
    as_slot(op)->kind = KIND_CANCELLED;
    as_slot(op)->count = 1;
    return 0;
}

static int slot_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_ssize_t i;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(as_slot(op)->inbox);
    Py_VISIT(as_slot(op)->task);
    Py_VISIT(as_slot(op)->data);
    Py_VISIT(as_slot(op)->pack);
    for (i = 0; as_slot(op)->values != NULL && i < as_slot(op)->count; i++)
        Py_VISIT(as_slot(op)->values[i]);
    return 0;
}

static int slot_clear(PyObject *op)
{
    Py_ssize_t i;
    for (i = 0; as_slot(op)->values != NULL && i < as_slot(op)->count; i++)
        Py_CLEAR(as_slot(op)->values[i]);
    Py_CLEAR(as_slot(op)->inbox);
    Py_CLEAR(as_slot(op)->task);
    Py_CLEAR(as_slot(op)->data);
    Py_CLEAR(as_slot(op)->pack);
    return 0;
}

static void slot_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    slot_clear(op);
    PyMem_RawFree(as_slot(op)->values);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *slot_deliver(PyObject *op, PyObject *args)
{
    PyObject *task, *data;
    int kind;
    if (!PyArg_ParseTuple(args, "OiO:deliver", &task, &kind, &data))
        return NULL;
    if (kind == KIND_PART)
        inbox_deliver_part(core_state_of(op), as_slot(op), data);
    else
        inbox_deliver(as_slot(op), kind, data);
    Py_RETURN_NONE;
}

static PyMemberDef slot_members[] = {
    {"inbox", T_OBJECT_EX, offsetof(struct slot_object, inbox), READONLY, NULL},
    {"index", T_PYSSIZET, offsetof(struct slot_object, index), READONLY, NULL},
    {"task", T_OBJECT, offsetof(struct slot_object, task), 0, NULL},
    {"kind", T_INT, offsetof(struct slot_object, kind), 0, NULL},
    {"data", T_OBJECT, offsetof(struct slot_object, data), 0, NULL},
    {"done", T_BOOL, offsetof(struct slot_object, done), READONLY, NULL},
    {"size", T_PYSSIZET, offsetof(struct slot_object, size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef slot_methods[] = {
    {"deliver", slot_deliver, METH_VARARGS, "deliver($self, task, kind, data, /)\n--\n\nCalled by the pool."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slot_slots[] = {
    {Py_tp_doc, (void *)"One item between its submit and its reader; see pool/inbox.py."},
    {Py_tp_new, PyType_GenericNew}, {Py_tp_init, slot_init},       {Py_tp_traverse, slot_traverse},
    {Py_tp_clear, slot_clear},      {Py_tp_dealloc, slot_dealloc}, {Py_tp_members, slot_members},
    {Py_tp_methods, slot_methods},  {0, NULL},
};

static PyType_Spec slot_spec = {
    .name = "treadle._native._core.SlotCore",
    .basicsize = sizeof(struct slot_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slot_slots,
};

int core_add_slot(PyObject *module, struct core_state *core)
{
    core->slot_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &slot_spec, NULL);
    return core->slot_type == NULL ? -1 : PyModule_AddType(module, core->slot_type);
}
