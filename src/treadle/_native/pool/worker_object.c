/* See worker.h. */
#include "pool/worker.h"
#include "pool/pool.h"

static int worker_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct worker_object *self = (struct worker_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->id);
    Py_VISIT(self->state);
    Py_VISIT(self->assigned);
    Py_VISIT(self->draining);
    Py_VISIT(self->lane);
    return 0;
}

static int worker_clear(PyObject *op)
{
    struct worker_object *self = (struct worker_object *)op;
    Py_CLEAR(self->id);
    Py_CLEAR(self->state);
    Py_CLEAR(self->assigned);
    Py_CLEAR(self->draining);
    Py_CLEAR(self->lane);
    return 0;
}

static void worker_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    worker_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef worker_members[] = {
    MEMBER(worker_object, "id", T_OBJECT_EX, id, 0),
    MEMBER(worker_object, "state", T_OBJECT_EX, state, 0),
    MEMBER(worker_object, "assigned", T_OBJECT_EX, assigned, 0),
    MEMBER(worker_object, "draining", T_OBJECT_EX, draining, 0),
    MEMBER(worker_object, "lane", T_OBJECT, lane, 0),
    MEMBER(worker_object, "last", T_LONGLONG, last, 0),
    MEMBER(worker_object, "waiting", T_PYSSIZET, waiting, 0),
    MEMBER(worker_object, "retired", T_BOOL, retired, 0),
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_doc, (void *)"The hot fields of the brain's Worker; see pool/crew.py."},
    {Py_tp_traverse, worker_traverse}, {Py_tp_clear, worker_clear}, {Py_tp_dealloc, worker_dealloc},
    {Py_tp_members, worker_members},   {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "treadle._native._core.WorkerCore",
    .basicsize = sizeof(struct worker_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = worker_slots,
};

int core_add_worker(PyObject *module, struct core_state *core)
{
    core->worker_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &worker_spec, NULL);
    return core->worker_type == NULL ? -1 : PyModule_AddType(module, core->worker_type);
}
