/* RLock: the lock with a count.  Invariant: count is 1 or more while it is owned, and only the owner touches it. */
#include "python/arguments.h"
#include "python/light.h"
#include "sync/lock_object.h"
#include "sync/order.h"
#include "sync/sync.h"

static PyObject *rlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
#if PY_VERSION_HEX < 0x030f0000
    /* Before Python 3.15, threading.RLock ignores any arguments, lately with a warning.  One called name is ours. */
    Py_ssize_t given = PyTuple_GET_SIZE(args) + (kwargs == NULL ? 0 : PyDict_GET_SIZE(kwargs));
    PyObject *name = kwargs == NULL ? NULL : PyDict_GetItemString(kwargs, "name");
    if ((type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) && given > (name != NULL)) {
        PyObject *nothing, *self;
        if (PyErr_WarnEx(PyExc_DeprecationWarning, "RLock() takes no arguments but name=; others are ignored", 1) < 0 ||
            (nothing = PyTuple_New(0)) == NULL)
            return NULL;
        self = core_lock_new(type, nothing, NULL, "|$O:RLock");
        Py_DECREF(nothing);
        return self;
    }
#endif
    return core_lock_new(type, args, kwargs, "|$O:RLock");
}

static inline uint32_t count_of(struct lock_object *self)
{
    return atomic_load_explicit(&self->count, memory_order_relaxed);
}

static inline void set_count(struct lock_object *self, uint32_t count)
{
    atomic_store_explicit(&self->count, count, memory_order_relaxed);
}

static PyObject *again(struct lock_object *self)
{
    uint32_t count = count_of(self);
    if (count == UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "internal lock count overflowed");
        return NULL;
    }
    set_count(self, count + 1);
    Py_RETURN_TRUE;
}

static PyObject *take(PyObject *op, struct tl_self *me, int64_t timeout)
{
    struct lock_object *self = (struct lock_object *)op;
    if (tl_lock_try(&self->lock, me->token)) {
        set_count(self, 1);
        Py_RETURN_TRUE;
    }
    if (tl_self_is(me, atomic_load_explicit(&self->lock.word, memory_order_relaxed)))
        return again(self);
    if (timeout == 0) {
        if (!tl_lock_barge(&self->lock, me->token))
            Py_RETURN_FALSE;
        set_count(self, 1);
        Py_RETURN_TRUE;
    } else {
        enum wait_result result = core_lock_block(core_state_of(op), self, 0, timeout, NULL);
        if (result == WAIT_GOT)
            set_count(self, 1);
        return core_lock_acquired(result);
    }
}

static PyObject *rlock_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    return me == NULL ? NULL : take(op, me, -1);
}

static PyObject *rlock_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct tl_self *me = core_self();
    int64_t timeout = -1;
    if (me == NULL)
        return NULL;
    if ((nargs != 0 || kwnames != NULL) && core_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return NULL;
    return take(op, me, timeout);
}

static PyObject *rlock_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lock_object *self = (struct lock_object *)op;
    struct tl_self *me = core_self();
    uint32_t count;
    if (me == NULL)
        return NULL;
    if (!tl_self_is(me, atomic_load_explicit(&self->lock.word, memory_order_relaxed))) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    count = count_of(self);
    set_count(self, count - 1);
    if (count == 1)
        tl_lock_release(&self->lock, lock_id(self), me);
    Py_RETURN_NONE;
}

static PyObject *rlock_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return rlock_release(op, NULL);
}

static PyObject *rlock_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((atomic_load(&((struct lock_object *)op)->lock.word) & TL_OWNER_MASK) != 0);
}

static bool mine(PyObject *op, struct tl_self *me)
{
    return tl_self_is(me, atomic_load_explicit(&((struct lock_object *)op)->lock.word, memory_order_relaxed));
}

static PyObject *rlock_is_owned(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    return me == NULL ? NULL : PyBool_FromLong(mine(op, me));
}

static PyObject *rlock_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    return me == NULL ? NULL : PyLong_FromUnsignedLong(mine(op, me) ? count_of((struct lock_object *)op) : 0);
}

static PyObject *rlock_save(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    struct held held;
    if (me == NULL)
        return NULL;
    if (!mine(op, me)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    if (core_lock_save(op, me, &held) < 0)
        return NULL;
    return Py_BuildValue("(kk)", (unsigned long)held.count, (unsigned long)PyThread_get_thread_ident());
}

static PyObject *rlock_restore(PyObject *op, PyObject *saved)
{
    unsigned long count, owner;
    struct held held = {0, 0};
    if (!PyTuple_Check(saved) || !PyArg_ParseTuple(saved, "kk:_acquire_restore", &count, &owner)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "_acquire_restore() takes what _release_save() returned");
        return NULL;
    }
    held.count = (uint32_t)count;
    if (core_lock_restore(op, &held) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *rlock_reinit(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lock_object *self = (struct lock_object *)op;
    set_count(self, 0);
    atomic_store(&self->lock.word, 0);
    Py_RETURN_NONE;
}

static PyObject *rlock_repr(PyObject *op)
{
    return core_lock_repr(op, true);
}

PyDoc_STRVAR(rlock_doc,
"RLock(*, name=None)\n--\n\n"
"A lock that its owner may take again; it must be released as often.\n\n"
"Like threading.RLock.  A cycle of threads that wait for such locks raises DeadlockError in one of them.\n"
"`name` shows in its repr and in such reports.  Thread-safe; for one process.");
PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
"Take the lock once more; wait at most `timeout` seconds (-1: forever).  Return whether it was taken.\n\n"
"Raises DeadlockError if the wait can never end, KeyboardInterrupt on Ctrl-C, Interrupted on Thread.interrupt().");
PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\nUndo one acquire().  RuntimeError if the calling thread doesn't hold the lock.");
PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nWhether somebody holds the lock.");

static PyMethodDef rlock_methods[] = {
    {"acquire", FAST(rlock_acquire), METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", rlock_release, METH_NOARGS, release_doc},
    {"locked", rlock_locked, METH_NOARGS, locked_doc},
    {"__enter__", rlock_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(rlock_exit), METH_FASTCALL, NULL},
    {"_is_owned", rlock_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", rlock_count, METH_NOARGS, NULL},
    {"_release_save", rlock_save, METH_NOARGS, NULL},
    {"_acquire_restore", rlock_restore, METH_O, NULL},
    {"_at_fork_reinit", rlock_reinit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

CORE_ORDER_METHODS(rlock)
CORE_ORDER_WATCH(rlock)

static PyType_Slot rlock_slots[] = {
    {Py_tp_doc, (void *)rlock_doc},       {Py_tp_new, rlock_new},         {Py_tp_dealloc, core_lock_dealloc},
    {Py_tp_repr, rlock_repr},             {Py_tp_methods, rlock_methods}, {Py_tp_members, core_lock_members},
    {0, NULL},
};

static PyType_Spec rlock_spec = {
    .name = "treadle.threading.RLock",
    .basicsize = sizeof(struct lock_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rlock_slots,
};

int core_add_rlock(PyObject *module, struct core_state *state)
{
    state->rlock_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rlock_spec, NULL);
    if (state->rlock_type == NULL || core_light_methods(module, state->rlock_type) < 0)
        return -1;
    return PyModule_AddType(module, state->rlock_type);
}
