/* Semaphore and BoundedSemaphore in shared memory: see permits.h. */
#include "sync/shared_object.h"
#include "memory/permits.h"

#include <string.h>

struct permit_wait {
    struct wait wait;
    struct shared_object *semaphore;
};

static uint32_t value_of(struct shared_object *self)
{
    return TL_PERMITS_VALUE(atomic_load(&self->slot->u.permits.word));
}

static bool look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct shared_object *self = ((struct permit_wait *)wait)->semaphore;
    (void)me;
    (void)entitled;
    if (tl_permits_take(self->number))
        return true;
    tl_permits_mark(self->number);
    if (inspect)
        tl_permits_look_for_dead(self->number, self->id);
    return tl_permits_take(self->number);
}

static void leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct shared_object *self = ((struct permit_wait *)wait)->semaphore;
    (void)me;
    if (claimed && value_of(self) != 0)
        tl_permits_wake(self->number, self->id, 1);
}

static void describe(struct wait *wait, char *text, size_t size)
{
    shared_describe((PyObject *)((struct permit_wait *)wait)->semaphore, "Semaphore", text, size);
}

static PyObject *take(PyObject *op, int64_t timeout)
{
    struct shared_object *self = (struct shared_object *)op;
    struct permit_wait w;
    if (!shared_ready(self))
        return NULL;
    if (tl_permits_take(self->number))
        Py_RETURN_TRUE;
    if (timeout == 0) {
        if (tl_permits_look_for_dead(self->number, self->id) > 0 && tl_permits_take(self->number))
            Py_RETURN_TRUE;
        Py_RETURN_FALSE;
    }
    memset(&w, 0, sizeof w);
    w.wait.object = self->id;
    w.wait.flags = TL_SEMAPHORE << TL_KIND_SHIFT;
    w.wait.look = look;
    w.wait.leave = leave;
    w.wait.describe = describe;
    w.semaphore = self;
    return core_lock_acquired(core_wait(core_state_of(op), &w.wait, timeout));
}

static PyObject *semaphore_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t timeout = -1;
    if ((nargs != 0 || kwnames != NULL) && shared_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return NULL;
    return take(op, timeout);
}

static PyObject *semaphore_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return take(op, -1);
}

static PyObject *give(PyObject *op)
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    if (tl_permits_give(self->number, self->id) == TL_GIVEN)
        Py_RETURN_NONE;
    if (atomic_load(&self->slot->u.permits.bound) < TL_PERMITS_MOST)
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    else
        PyErr_SetString(PyExc_OverflowError, "the semaphore's value would be too large");
    return NULL;
}

static PyObject *semaphore_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return give(op);
}

static PyObject *semaphore_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return give(op);
}

static PyObject *semaphore_value(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(value_of(self)) : NULL;
}

static PyObject *semaphore_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyBool_FromLong(value_of(self) == 0) : NULL;
}

/* How many of its permits this process has. */
static PyObject *semaphore_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(tl_permits_net(self->number)) : NULL;
}

static PyObject *semaphore_is_mine(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyBool_FromLong(tl_permits_net(self->number) > 0) : NULL;
}

static PyObject *semaphore_itself(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(op);
}

static PyObject *semaphore_bound(PyObject *op, void *Py_UNUSED(closure))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLongLong(atomic_load(&self->slot->u.permits.bound)) : NULL;
}

/* _open(value, bounded, name) */
static PyObject *semaphore_open(PyObject *op, PyObject *args)
{
    struct shared_object *self = (struct shared_object *)op;
    long long value;
    int bounded;
    PyObject *name;
    if (!PyArg_ParseTuple(args, "LpO:Semaphore", &value, &bounded, &name))
        return NULL;
    if (value < 0 || value > TL_PERMITS_MOST) {
        PyErr_Format(PyExc_ValueError, "a semaphore's initial value must be from 0 to %u", TL_PERMITS_MOST);
        return NULL;
    }
    if (shared_make(op, bounded ? TL_SLOT_BOUNDED : TL_SLOT_SEMAPHORE, name) < 0)
        return NULL;
    tl_permits_init(self->number, (uint32_t)value, bounded ? (uint32_t)value : TL_PERMITS_MOST);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, block=True, timeout=None)\n--\n\n"
"Take a permit; wait at most `timeout` seconds (None: forever; negative: 0).  Return whether one was taken.");
PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\nGive a permit, and wake a waiter.  ValueError if that exceeds the bound.");

static PyMethodDef methods[] = {
    {"acquire", FAST(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", semaphore_release, METH_NOARGS, release_doc},
    {"get_value", semaphore_value, METH_NOARGS, "get_value($self, /)\n--\n\nHow many permits there are now."},
    {"locked", semaphore_locked, METH_NOARGS, "locked($self, /)\n--\n\nWhether acquire() would have to wait."},
    {"__enter__", semaphore_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(semaphore_exit), METH_FASTCALL, NULL},
    /* What the standard library's own classes look at, those that are built of semaphores. */
    {"_get_value", semaphore_value, METH_NOARGS, NULL},
    {"_is_zero", semaphore_locked, METH_NOARGS, NULL},
    {"_is_mine", semaphore_is_mine, METH_NOARGS, NULL},
    {"_count", semaphore_count, METH_NOARGS, NULL},
    {"_open", semaphore_open, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"_semlock", semaphore_itself, NULL, NULL, NULL},
    {"_bound", semaphore_bound, NULL, "The most permits that there can be.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},           {Py_tp_getset, getset},          {Py_tp_traverse, open_traverse},
    {Py_tp_clear, open_clear},          {Py_tp_dealloc, shared_dealloc}, {Py_tp_members, open_members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._native._core.SharedSemaphore",
    .basicsize = sizeof(struct shared_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_shared_semaphore(PyObject *module, struct core_state *state)
{
    PyTypeObject *type = shared_add_type(module, &spec, state->shared_type, "SharedSemaphore");
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
