/* Condition: a lock, and threads that let go of it until they are notified.
 *
 * A wait is published before the lock is released, so a notifier, who holds the lock, finds it.  Those it claims are
 * woken when it releases the lock, not before: they could only run into it.
 */
#include "python/arguments.h"
#include "python/open_object.h"
#include "sync/lock_object.h"
#include "sync/sync.h"

#include <string.h>

struct condition_object {
    OPEN_OBJECT_HEAD
    PyObject *lock; /* never NULL once made */
    bool ours;      /* it is exactly one of our locks */
    /* Invariant: at least the number of published waits.  Changed only by the waiters themselves. */
    _Atomic uint32_t waiting;
};

static uint64_t condition_id(struct condition_object *self)
{
    return (uint64_t)(uintptr_t)&self->waiting;
}

static PyObject *condition_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct condition_object *self = (struct condition_object *)open_alloc(type);
    (void)args;
    (void)kwargs;
    return (PyObject *)self;
}

static int condition_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"lock", NULL};
    struct condition_object *self = (struct condition_object *)op;
    struct core_state *state = core_state_of(op);
    PyObject *lock = NULL, *old;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Condition", names, &lock))
        return -1;
    lock = lock == NULL || lock == Py_None ? PyObject_CallNoArgs((PyObject *)state->rlock_type) : Py_NewRef(lock);
    if (lock == NULL)
        return -1;
    if (!core_lock_is_ours(state, lock)) {
        PyObject *acquire = PyObject_GetAttrString(lock, "acquire");
        PyObject *release = acquire == NULL ? NULL : PyObject_GetAttrString(lock, "release");
        Py_XDECREF(acquire);
        Py_XDECREF(release);
        if (release == NULL) {
            Py_DECREF(lock);
            return -1;
        }
    }
    old = self->lock;
    self->ours = core_lock_is_ours(state, lock);
    self->lock = lock;
    Py_XDECREF(old);
    return 0;
}

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
    open_dealloc(op);
}

static PyObject *need_lock(PyObject *op)
{
    PyObject *lock = ((struct condition_object *)op)->lock;
    if (lock == NULL)
        PyErr_SetString(PyExc_RuntimeError, "Condition.__init__() was not called");
    return lock;
}

static PyObject *call(PyObject *op, const char *name)
{
    PyObject *lock = need_lock(op);
    return lock == NULL ? NULL : PyObject_CallMethod(lock, name, NULL);
}

/* An attribute that a foreign lock may lack: 1 found, 0 not, -1 error. */
static int optional(PyObject *lock, const char *name, PyObject **value)
{
    *value = PyObject_GetAttrString(lock, name);
    if (*value != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* Does the calling thread hold the lock (or, for a plain lock, anybody)?  -1 with an exception. */
static int owned(PyObject *op, struct tl_self *me)
{
    struct condition_object *self = (struct condition_object *)op;
    PyObject *method, *answer;
    int rc;
    if (need_lock(op) == NULL)
        return -1;
    if (self->ours)
        return core_lock_owned(self->lock, me);
    rc = optional(self->lock, "_is_owned", &method);
    if (rc < 0)
        return -1;
    if (rc == 1) {
        answer = PyObject_CallNoArgs(method);
        Py_DECREF(method);
        rc = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        return rc;
    }
    answer = PyObject_CallMethod(self->lock, "acquire", "O", Py_False);
    rc = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (rc <= 0)
        return rc < 0 ? -1 : 1;
    answer = PyObject_CallMethod(self->lock, "release", NULL);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

struct condition_wait {
    struct wait wait;
    struct condition_object *condition;
    struct held held;    /* how one of our locks was held */
    PyObject *saved;     /* what a foreign lock's _release_save() returned */
    bool released;
};

static int condition_prepare(struct wait *wait, struct tl_self *me)
{
    struct condition_wait *w = (struct condition_wait *)wait;
    PyObject *lock = w->condition->lock, *method;
    int rc;
    atomic_fetch_add(&w->condition->waiting, 1);
    if (w->condition->ours) {
        w->released = core_lock_save(lock, me, &w->held) == 0;
        return w->released ? 0 : -1;
    }
    rc = optional(lock, "_release_save", &method);
    if (rc < 0)
        return -1;
    if (rc == 1) {
        w->saved = PyObject_CallNoArgs(method);
        Py_DECREF(method);
        w->released = w->saved != NULL;
    } else {
        PyObject *nothing = PyObject_CallMethod(lock, "release", NULL);
        w->released = nothing != NULL;
        Py_XDECREF(nothing);
    }
    return w->released ? 0 : -1;
}

static void condition_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct condition_wait *w = (struct condition_wait *)wait;
    (void)me;
    if (claimed) /* notified, but an exception came first: the notification is for another waiter */
        tl_notify(condition_id(w->condition), TL_PRIVATE, 1, NULL);
}

static void condition_text(struct wait *wait, char *text, size_t size)
{
    open_describe((PyObject *)((struct condition_wait *)wait)->condition, "Condition", text, size);
}

static int restore(struct condition_wait *w)
{
    PyObject *type, *value, *traceback, *nothing;
    int rc;
    if (!w->released)
        return 0;
    PyErr_Fetch(&type, &value, &traceback);
    if (w->condition->ours) {
        rc = core_lock_restore(w->condition->lock, &w->held);
    } else {
        nothing = w->saved != NULL ? PyObject_CallMethod(w->condition->lock, "_acquire_restore", "O", w->saved)
                                   : PyObject_CallMethod(w->condition->lock, "acquire", NULL);
        rc = nothing == NULL ? -1 : 0;
        Py_XDECREF(nothing);
    }
    if (rc == 0 || type != NULL)
        PyErr_Restore(type, value, traceback); /* the wait's own exception, if there was one */
    return rc;
}

/* 1 notified, 0 timed out, -1 exception */
static int wait_once(PyObject *op, int64_t timeout)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = core_self();
    struct condition_wait w;
    enum wait_result result;
    int rc;

    if (me == NULL)
        return -1;
    rc = owned(op, me);
    if (rc <= 0) {
        if (rc == 0)
            PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock");
        return -1;
    }
    memset(&w, 0, sizeof w);
    w.wait.object = condition_id(self);
    w.wait.flags = TL_PRIVATE | TL_CONDITION << TL_KIND_SHIFT;
    w.wait.claim_is_success = true;
    w.wait.prepare = condition_prepare;
    w.wait.leave = condition_leave;
    w.wait.describe = condition_text;
    w.condition = self;
    result = core_wait(core_state_of(op), &w.wait, timeout);
    atomic_fetch_sub(&self->waiting, 1);
    rc = restore(&w);
    Py_XDECREF(w.saved);
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

static PyObject *condition_wait_for(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"predicate", "timeout", NULL};
    PyObject *predicate, *value = NULL, *result, *method, *answer;
    int64_t timeout, left;
    uint64_t deadline = 0, now;
    int rc;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:wait_for", names, &predicate, &value) ||
        core_timeout(value, &timeout) < 0)
        return NULL;
    result = PyObject_CallNoArgs(predicate);
    if (timeout >= 0)
        deadline = os_now() + (uint64_t)timeout;
    while (result != NULL) {
        rc = PyObject_IsTrue(result);
        if (rc != 0) {
            if (rc < 0)
                Py_CLEAR(result);
            return result;
        }
        left = -1;
        if (timeout >= 0) {
            now = os_now();
            if (now >= deadline)
                return result;
            left = (int64_t)(deadline - now);
        }
        Py_DECREF(result);
        if (Py_TYPE(op)->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) {
            rc = wait_once(op, left);
        } else { /* a subclass may have its own wait() */
            method = PyObject_GetAttrString(op, "wait");
            answer = method == NULL ? NULL
                     : left < 0     ? PyObject_CallNoArgs(method)
                                    : PyObject_CallFunction(method, "d", (double)left / 1e9);
            Py_XDECREF(method);
            rc = answer == NULL ? -1 : 0;
            Py_XDECREF(answer);
        }
        if (rc < 0)
            return NULL;
        result = PyObject_CallNoArgs(predicate);
    }
    return NULL;
}

static PyObject *notify(PyObject *op, int64_t n)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = core_self();
    int rc;
    if (me == NULL)
        return NULL;
    rc = owned(op, me);
    if (rc < 0)
        return NULL;
    if (rc == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot notify on un-acquired lock");
        return NULL;
    }
    if (n != 0 && atomic_load(&self->waiting) > 0) {
        /* Only an RLock's owner itself will release it, and then pay; a plain lock anybody may. */
        bool mine = self->ours && Py_TYPE(self->lock) == core_state_of(op)->rlock_type &&
                    tl_self_is(me, atomic_load(&((struct lock_object *)self->lock)->lock.word));
        tl_notify(condition_id(self), TL_PRIVATE, n, mine ? me : NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *condition_notify(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"n", NULL};
    Py_ssize_t n = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:notify", names, &n))
        return NULL;
    return notify(op, n < 0 ? 0 : (int64_t)n);
}

static PyObject *condition_notify_all(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return notify(op, -1);
}

static PyObject *condition_notifyAll(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (PyErr_WarnEx(PyExc_DeprecationWarning, "notifyAll() is deprecated, use notify_all() instead", 1) < 0)
        return NULL;
    return notify(op, -1);
}

static PyObject *forward(PyObject *op, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *lock = need_lock(op), *method, *result;
    if (lock == NULL)
        return NULL;
    method = PyObject_GetAttrString(lock, name);
    if (method == NULL)
        return NULL;
    result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return result;
}

static PyObject *condition_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return forward(op, "acquire", args, nargs, kwnames);
}

static PyObject *condition_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, "release", NULL, 0, NULL);
}

static PyObject *condition_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return forward(op, "__enter__", NULL, 0, NULL);
}

static PyObject *condition_exit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct condition_object *self = (struct condition_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL)
        return NULL;
    /* After a deadlock in wait() the lock could not be taken back: then the DeadlockError alone goes on. */
    if (self->ours && nargs > 0 && args[0] != Py_None &&
        !tl_self_is(me, atomic_load(&((struct lock_object *)self->lock)->lock.word)) &&
        PyErr_GivenExceptionMatches(args[0], PyExc_RuntimeError))
        Py_RETURN_NONE;
    return forward(op, "__exit__", args, nargs, NULL);
}

static PyObject *condition_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *lock = need_lock(op), *method;
    int rc;
    struct tl_self *me = core_self();
    if (lock == NULL || me == NULL)
        return NULL;
    rc = optional(lock, "locked", &method);
    if (rc < 0)
        return NULL;
    if (rc == 1) {
        PyObject *answer = PyObject_CallNoArgs(method);
        Py_DECREF(method);
        return answer;
    }
    rc = owned(op, me);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *condition_is_owned(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    int rc = me == NULL ? -1 : owned(op, me);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *condition_release_save(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *lock = need_lock(op), *method, *result;
    int rc = lock == NULL ? -1 : optional(lock, "_release_save", &method);
    if (rc < 0)
        return NULL;
    if (rc == 0)
        return call(op, "release");
    result = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return result;
}

static PyObject *condition_acquire_restore(PyObject *op, PyObject *saved)
{
    PyObject *lock = need_lock(op), *method, *result;
    int rc = lock == NULL ? -1 : optional(lock, "_acquire_restore", &method);
    if (rc < 0)
        return NULL;
    if (rc == 0)
        return call(op, "acquire");
    result = PyObject_CallOneArg(method, saved);
    Py_DECREF(method);
    return result;
}

static PyObject *condition_recursion_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return call(op, "_recursion_count");
}

static PyObject *condition_reinit(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_store(&((struct condition_object *)op)->waiting, 0);
    return call(op, "_at_fork_reinit");
}

static PyObject *condition_repr(PyObject *op)
{
    struct condition_object *self = (struct condition_object *)op;
    PyObject *name = open_type_name(op), *text;
    if (name == NULL)
        return NULL;
    text = PyUnicode_FromFormat("<%U(%R, %u)>", name, self->lock == NULL ? Py_None : self->lock,
                                (unsigned)tl_waiters(condition_id(self), TL_PRIVATE));
    Py_DECREF(name);
    return text;
}

PyDoc_STRVAR(condition_doc,
"Condition(lock=None)\n--\n\n"
"Threads wait until another one notifies them that something has changed.\n\n"
"Like threading.Condition; `lock` is any lock (None: a new RLock).  Waiters are notified in the order in which they\n"
"came.  Thread-safe; for one process.");
PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Release the lock, wait for a notification or `timeout` seconds, take the lock again.\n\n"
"Return False if the time ran out.  RuntimeError if the lock isn't held.");
PyDoc_STRVAR(wait_for_doc,
"wait_for($self, /, predicate, timeout=None)\n--\n\n"
"Wait until predicate() is true, for at most `timeout` seconds.  Return its last value.");
PyDoc_STRVAR(notify_doc,
"notify($self, /, n=1)\n--\n\nWake the n threads that have waited longest.  RuntimeError if the lock isn't held.");
PyDoc_STRVAR(notify_all_doc,
"notify_all($self, /)\n--\n\nWake all that wait.  RuntimeError if the lock isn't held.");

static PyMethodDef condition_methods[] = {
    {"acquire", FAST(condition_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, *args, **kwargs)\n--\n\nTake the lock: its own acquire()."},
    {"release", condition_release, METH_NOARGS, "release($self, /)\n--\n\nRelease the lock."},
    {"locked", condition_locked, METH_NOARGS, "locked($self, /)\n--\n\nWhether somebody holds the lock."},
    {"wait", FAST(condition_wait), METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"wait_for", FAST(condition_wait_for), METH_VARARGS | METH_KEYWORDS, wait_for_doc},
    {"notify", FAST(condition_notify), METH_VARARGS | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS, notify_all_doc},
    {"notifyAll", condition_notifyAll, METH_NOARGS, "notifyAll($self, /)\n--\n\nDeprecated name of notify_all()."},
    {"__enter__", condition_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(condition_exit), METH_FASTCALL, NULL},
    {"_is_owned", condition_is_owned, METH_NOARGS, NULL},
    {"_release_save", condition_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", condition_acquire_restore, METH_O, NULL},
    {"_recursion_count", condition_recursion_count, METH_NOARGS, NULL},
    {"_at_fork_reinit", condition_reinit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef condition_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct open_object, weak), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(struct open_object, dict), READONLY, NULL},
    {"_lock", T_OBJECT_EX, offsetof(struct condition_object, lock), READONLY, "The lock."},
    {NULL, 0, 0, 0, NULL},
};

/* A list with an entry for each thread that waits: for those who count them. */
static PyObject *condition_waiters(PyObject *op, void *Py_UNUSED(closure))
{
    Py_ssize_t i, n = (Py_ssize_t)tl_waiters(condition_id((struct condition_object *)op), TL_PRIVATE);
    PyObject *list = PyList_New(n);
    for (i = 0; list != NULL && i < n; i++)
        PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
    return list;
}

static PyGetSetDef condition_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_waiters", condition_waiters, NULL, "A list as long as the number of threads that wait.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, (void *)condition_doc},
    {Py_tp_new, condition_new},
    {Py_tp_init, condition_init},
    {Py_tp_traverse, condition_traverse},
    {Py_tp_clear, condition_clear},
    {Py_tp_dealloc, condition_dealloc},
    {Py_tp_repr, condition_repr},
    {Py_tp_methods, condition_methods},
    {Py_tp_members, condition_members},
    {Py_tp_getset, condition_getset},
    {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "treadle.threading.Condition",
    .basicsize = sizeof(struct condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = condition_slots,
};

int core_add_condition(PyObject *module, struct core_state *state)
{
    state->condition_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &condition_spec, NULL);
    return state->condition_type == NULL ? -1 : PyModule_AddType(module, state->condition_type);
}
