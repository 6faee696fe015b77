/* The base of the objects in shared memory. */
#include "sync/shared_object.h"
#include "python/arguments.h"
#include "python/text.h"
#include "sync/sync.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void shared_error(int error)
{
    if (error == ENOMEM || error == ENOSPC) {
        PyErr_SetString(PyExc_MemoryError, "no memory is left for objects shared between processes");
    } else if (error == EAGAIN) {
        PyErr_SetString(PyExc_OSError, "too many objects are shared between processes, or too many processes share them");
    } else if (error == ESTALE) {
        PyErr_SetString(PyExc_RuntimeError, "this forked process could not join those that share objects");
    } else {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
}

void shared_unusable(struct shared_object *self)
{
    if (self->slot == NULL)
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
    else
        shared_error(ESTALE);
}

PyObject *shared_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return open_alloc(type);
}

static void let_go(struct shared_object *self)
{
    if (self->slot != NULL)
        tl_arena_drop(self->number, self->generation);
    self->slot = NULL;
}

static void refer(struct shared_object *self, uint32_t number, uint32_t generation)
{
    self->number = number;
    self->generation = generation;
    self->id = tl_slot_id(number, generation);
    self->slot = tl_slot(number);
}

int shared_make_plain(PyObject *op, enum tl_slot_kind kind)
{
    struct shared_object *self = (struct shared_object *)op;
    uint32_t number, generation;
    int error;
    if (core_self() == NULL)
        return -1;
    error = tl_arena_new(kind, &number, &generation);
    if (error != 0) {
        shared_error(error);
        return -1;
    }
    let_go(self);
    refer(self, number, generation);
    return 0;
}

int shared_make(PyObject *op, enum tl_slot_kind kind, PyObject *name)
{
    struct shared_object *self = (struct shared_object *)op;
    char text[TL_SLOT_NAME];
    if (name != NULL && name != Py_None && !PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %.100s", Py_TYPE(name)->tp_name);
        return -1;
    }
    if (shared_make_plain(op, kind) < 0)
        return -1;
    if (name != NULL && name != Py_None) {
        core_copy_str(name, text, TL_SLOT_NAME);
        tl_text_store(self->slot->name, TL_SLOT_NAME, text);
    }
    core_store_users_place(core_state_of(op), self->slot->place, TL_SLOT_PLACE);
    return 0;
}

void shared_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    let_go((struct shared_object *)op);
    open_dealloc(op);
}

void shared_describe(PyObject *op, const char *kind, char *text, size_t size)
{
    struct shared_object *self = (struct shared_object *)op;
    char name[TL_SLOT_NAME], place[TL_SLOT_PLACE];
    tl_text_load(self->slot->name, TL_SLOT_NAME, name);
    tl_text_load(self->slot->place, TL_SLOT_PLACE, place);
    if (name[0] != 0)
        snprintf(text, size, "%s '%s' (made at %s)", kind, name, place);
    else
        snprintf(text, size, "%s (made at %s)", kind, place);
}

int shared_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout)
{
    PyObject *values[2];
    int block = 1;
    if (core_two_args(args, nargs, kwnames, "block", values) < 0)
        return -1;
    if (values[0] != NULL && (block = PyObject_IsTrue(values[0])) < 0)
        return -1;
    if (core_timeout(values[1], timeout) < 0)
        return -1;
    if (!block)
        *timeout = 0;
    return 0;
}

/* _send() -> (slot, generation): a pickle of it is on its way. */
static PyObject *shared_send(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    tl_arena_sent(self->number);
    return Py_BuildValue("(II)", self->number, self->generation);
}

/* _receive(slot, generation): what _send() of another process returned. */
static PyObject *shared_receive(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    struct core_state *state = core_state_of(op);
    unsigned int number, generation;
    int error;
    if (!PyArg_ParseTuple(args, "II:_receive", &number, &generation))
        return NULL;
    error = tl_arena_attach(number, generation);
    if (error == ESTALE && !tl_arena.lost) {
        PyErr_Format(state->gone != NULL ? state->gone : PyExc_RuntimeError,
                     "the shared %s was freed: its last holder dropped it", _PyType_Name(Py_TYPE(op)));
        return NULL;
    }
    if (error != 0) {
        shared_error(error);
        return NULL;
    }
    tl_arena_received(number);
    let_go(self);
    refer(self, number, generation);
    Py_RETURN_NONE;
}

static PyObject *call_hook(PyObject *hook, PyObject *op, const char *what)
{
    if (hook != NULL)
        return PyObject_CallOneArg(hook, op);
    PyErr_Format(PyExc_RuntimeError, "treadle.sync.shared is not imported: no %s", what);
    return NULL;
}

static PyObject *shared_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return call_hook(core_state_of(op)->on_reduce, op, "pickling");
}

static PyObject *shared_repr(PyObject *op)
{
    return call_hook(core_state_of(op)->on_repr, op, "repr");
}

static PyObject *shared_name(PyObject *op, void *Py_UNUSED(closure))
{
    struct shared_object *self = (struct shared_object *)op;
    char name[TL_SLOT_NAME];
    if (!shared_ready(self))
        return NULL;
    tl_text_load(self->slot->name, TL_SLOT_NAME, name);
    if (name[0] == 0)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

static PyMethodDef shared_methods[] = {
    {"_send", shared_send, METH_NOARGS, NULL},
    {"_receive", shared_receive, METH_VARARGS, NULL},
    {"__reduce__", shared_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"name", shared_name, NULL, "The name it was given, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(shared_doc, "An object in memory that the processes of a session share.");

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, (void *)shared_doc},    {Py_tp_new, shared_new},           {Py_tp_traverse, open_traverse},
    {Py_tp_clear, open_clear},          {Py_tp_dealloc, shared_dealloc},   {Py_tp_repr, shared_repr},
    {Py_tp_methods, shared_methods},    {Py_tp_members, open_members},     {Py_tp_getset, shared_getset},
    {0, NULL},
};

static PyType_Spec shared_spec = {
    .name = "treadle._native._core.Shared",
    .basicsize = sizeof(struct shared_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = shared_slots,
};

PyTypeObject *shared_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, const char *name)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type != NULL && PyModule_AddObjectRef(module, name, type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

int core_add_shared(PyObject *module, struct core_state *state)
{
    int error = tl_arena_setup();
    if (error != 0) {
        shared_error(error);
        return -1;
    }
    state->shared_type = shared_add_type(module, &shared_spec, NULL, "Shared");
    if (state->shared_type == NULL || core_add_shared_lock(module, state) < 0 ||
        core_add_shared_semaphore(module, state) < 0 || core_add_shared_condition(module, state) < 0 ||
        core_add_shared_event(module, state) < 0 || core_add_shared_barrier(module, state) < 0 ||
        core_add_shared_cells(module, state) < 0)
        return -1;
    return 0;
}
