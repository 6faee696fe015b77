/* Condition in shared memory: a lock of ours, and threads of any process that let go of it until they are notified.
 *
 * A wait is published before the lock is released, so a notifier, who holds it, finds it.  There is no state but that: a
 * dead waiter is passed over, a dead notifier leaves nothing half done, and a notification whose waiter dies before its
 * wait() has returned goes to another one that waited at the time (TL_HEIRS). */
#include "python/arguments.h"
#include "sync/shared_object.h"
#include "system/points.h"

#include <string.h>

struct condition_object {
    struct shared_object base;
    PyObject *lock; /* NULL until it was made or received; else a shared Lock or RLock */
};

struct condition_wait {
    struct wait wait;
    struct condition_object *condition;
    struct held held;
    bool released;
};

static int condition_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((struct condition_object *)op)->lock);
    return open_traverse(op, visit, arg);
}

static int condition_clear(PyObject *op)
{
    Py_CLEAR(((struct condition_object *)op)->lock);
    return open_clear(op);
}

static void condition_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((struct condition_object *)op)->lock);
    shared_dealloc(op);
}

static int set_lock(PyObject *op, PyObject *lock)
{
    struct condition_object *self = (struct condition_object *)op;
    PyObject *old = self->lock;
    if (!shared_lock_check(core_state_of(op), lock)) {
        PyErr_Format(PyExc_TypeError, "a Condition for several processes needs a Lock or RLock of treadle's for several "
                     "processes, not %.100s", Py_TYPE(lock)->tp_name);
        return -1;
    }
    self->lock = Py_NewRef(lock);
    Py_XDECREF(old);
    return 0;
}

/* _open(lock, name) */
static PyObject *condition_open(PyObject *op, PyObject *args)
{
    PyObject *lock, *name;
    if (!PyArg_ParseTuple(args, "OO:Condition", &lock, &name) || set_lock(op, lock) < 0 ||
        shared_make(op, TL_SLOT_CONDITION, name) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *condition_set_lock(PyObject *op, PyObject *lock)
{
    if (set_lock(op, lock) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* This thread, if it holds the lock; else NULL with an exception. */
static struct tl_self *owner(struct condition_object *self, const char *message)
{
    struct tl_self *me = core_self();
    if (me == NULL || !shared_ready(&self->base))
        return NULL;
    if (self->lock == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Condition.__init__() was not called");
        return NULL;
    }
    if (!shared_lock_mine(self->lock, me)) {
        PyErr_SetString(PyExc_AssertionError, message);
        return NULL;
    }
    return me;
}

static int prepare(struct wait *wait, struct tl_self *me)
{
    struct condition_wait *w = (struct condition_wait *)wait;
    TL_POINT("condition.wait.published");
    shared_lock_save(w->condition->lock, me, &w->held);
    w->released = true;
    TL_POINT("condition.wait.released");
    return 0;
}

static void leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    (void)me;
    if (claimed) /* notified, but an exception came first: the notification is for another waiter */
        tl_notify(wait->object, 0, 1, NULL);
}

static void describe(struct wait *wait, char *text, size_t size)
{
    shared_describe((PyObject *)((struct condition_wait *)wait)->condition, "Condition", text, size);
}

/* 1 notified, 0 timed out, -1 exception */
static int wait_once(PyObject *op, int64_t timeout)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = owner(self, "must acquire() condition before using wait()");
    PyObject *type, *value, *traceback;
    struct condition_wait w;
    enum wait_result result;
    int rc = 0;

    if (me == NULL)
        return -1;
    memset(&w, 0, sizeof w);
    w.wait.object = self->base.id;
    w.wait.flags = TL_CONDITION << TL_KIND_SHIFT | TL_HEIRS;
    w.wait.claim_is_success = true;
    w.wait.prepare = prepare;
    w.wait.leave = leave;
    w.wait.describe = describe;
    w.condition = self;
    result = core_wait(core_state_of(op), &w.wait, timeout);
    TL_POINT("condition.wait.woken");
    if (w.released) {
        PyErr_Fetch(&type, &value, &traceback);
        rc = shared_lock_restore(self->lock, &w.held);
        if (rc == 0 || type != NULL)
            PyErr_Restore(type, value, traceback); /* the wait's own exception, if there was one */
    }
    if (w.wait.record != 0)
        tl_returned(w.wait.record);
    if (rc < 0 || result == WAIT_ERROR)
        return -1;
    return result == WAIT_GOT;
}

static PyObject *condition_wait(PyObject *op, PyObject *args, PyObject *kwargs)
{
    int64_t timeout;
    int rc;
    if (core_wait_args(args, kwargs, &timeout) < 0)
        return NULL;
    rc = wait_once(op, timeout);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *notify(PyObject *op, int64_t n)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = owner(self, "lock is not owned");
    bool only_me;
    if (me == NULL)
        return NULL;
    /* Only an RLock's owner itself releases it, and then wakes them; a plain lock may be released by anybody. */
    only_me = PyObject_TypeCheck(self->lock, core_state_of(op)->shared_rlock_type);
    if (n != 0)
        tl_notify(self->base.id, 0, n, only_me ? me : NULL);
    TL_POINT("condition.notify.claimed");
    Py_RETURN_NONE;
}

static PyObject *condition_notify(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"n", NULL};
    PyObject *value = NULL;
    Py_ssize_t n = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:notify", names, &value))
        return NULL;
    if (value != NULL) {
        n = PyNumber_AsSsize_t(value, NULL); /* more than fits: all */
        if (n == -1 && PyErr_Occurred())
            return NULL;
    }
    return notify(op, n < 0 ? 0 : (int64_t)n);
}

static PyObject *condition_notify_all(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return notify(op, -1);
}

/* `with`: after a deadlock in wait() the lock could not be taken back; then the DeadlockError alone goes on. */
static PyObject *condition_exit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = core_self();
    PyObject *method, *result;
    if (me == NULL || !shared_ready(&self->base))
        return NULL;
    if (self->lock == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Condition.__init__() was not called");
        return NULL;
    }
    if (nargs > 0 && args[0] != Py_None && !shared_lock_mine(self->lock, me) &&
        PyErr_GivenExceptionMatches(args[0], PyExc_RuntimeError))
        Py_RETURN_NONE;
    method = PyObject_GetAttrString(self->lock, "__exit__");
    if (method == NULL)
        return NULL;
    result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    return result;
}

static PyObject *condition_waiters(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(tl_waiters(self->id, 0)) : NULL;
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Release the lock, wait for a notification or `timeout` seconds, take the lock again.\n\n"
"Return False if the time ran out.  AssertionError if the lock isn't held by the calling thread.  If the lock has to be\n"
"taken from a dead process, its rule holds: a warning, or OwnerDied (with the lock held).");
PyDoc_STRVAR(notify_doc,
"notify($self, /, n=1)\n--\n\n"
"Wake the n that have waited longest, in any process.  AssertionError if the lock isn't held.");
PyDoc_STRVAR(notify_all_doc,
"notify_all($self, /)\n--\n\nWake all that wait.  AssertionError if the lock isn't held.");

static PyMethodDef methods[] = {
    {"wait", FAST(condition_wait), METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"notify", FAST(condition_notify), METH_VARARGS | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS, notify_all_doc},
    {"__exit__", FAST(condition_exit), METH_FASTCALL, NULL},
    {"_open", condition_open, METH_VARARGS, NULL},
    {"_set_lock", condition_set_lock, METH_O, NULL},
    {"_waiters", condition_waiters, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct open_object, weak), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(struct open_object, dict), READONLY, NULL},
    {"_lock", T_OBJECT_EX, offsetof(struct condition_object, lock), READONLY, "The lock."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},           {Py_tp_members, members},           {Py_tp_traverse, condition_traverse},
    {Py_tp_clear, condition_clear},     {Py_tp_dealloc, condition_dealloc}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._native._core.SharedCondition",
    .basicsize = sizeof(struct condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_shared_condition(PyObject *module, struct core_state *state)
{
    PyTypeObject *type = shared_add_type(module, &spec, state->shared_type, "SharedCondition");
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
