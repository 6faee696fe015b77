/* Lock: the drop-in for threading.Lock, and what it shares with RLock. */
#include "sync/lock_object.h"
#include "python/arguments.h"
#include "python/light.h"
#include "python/text.h"
#include "sync/order.h"
#include "sync/sync.h"
#include "board/gauge.h"

#include <stdio.h>
#include <string.h>

#define SPINS 40

static bool lock_look(struct wait *wait, struct tl_self *self, bool entitled, bool inspect)
{
    struct lock_wait *w = (struct lock_wait *)wait;
    return tl_lock_look(w->lock, self, w->bare, entitled, inspect, &w->recovered);
}

static tl_token lock_edge(struct wait *wait, struct tl_self *self)
{
    return tl_lock_edge(((struct lock_wait *)wait)->lock, self);
}

static void lock_leave(struct wait *wait, struct tl_self *self, bool claimed)
{
    struct lock_wait *w = (struct lock_wait *)wait;
    (void)self;
    if (claimed)
        tl_lock_pass_on(w->lock, wait->object);
}

static void lock_text(struct wait *wait, char *text, size_t size)
{
    bool recursive = wait->flags >> TL_KIND_SHIFT == TL_RLOCK;
    core_lock_describe((struct lock_object *)((struct lock_wait *)wait)->op, recursive ? "RLock" : "Lock", text, size);
}

void core_lock_describe(struct lock_object *self, const char *kind, char *text, size_t size)
{
    struct place place = {self->code, self->line};
    char where[160], name[64];
    core_place_text(&place, where, sizeof where);
    if (self->name != NULL) {
        core_copy_str(self->name, name, sizeof name);
        snprintf(text, size, "%s '%s' (made at %s)", kind, name, where);
    } else {
        snprintf(text, size, "%s (made at %s)", kind, where);
    }
}

enum wait_result core_lock_wait(struct core_state *state, struct lock_wait *w, int64_t timeout)
{
    int spins;

    if (tl_process.spins) {
        struct tl_self *me = core_self();
        if (me == NULL)
            return WAIT_ERROR;
        for (spins = 0; spins < SPINS; spins++) {
            uint64_t word = atomic_load_explicit(&w->lock->word, memory_order_relaxed);
            if (word == 0 && tl_lock_try(w->lock, me->token | w->bare))
                return WAIT_GOT;
            if (word & TL_WAITED)
                break;
            os_relax();
        }
    }
    w->wait.look = lock_look;
    w->wait.edge = lock_edge;
    w->wait.leave = lock_leave;
    return core_wait(state, &w->wait, timeout);
}

enum wait_result core_lock_block(struct core_state *state, struct lock_object *self, uint64_t bare, int64_t timeout,
                                 bool *hopeless)
{
    struct lock_wait w;
    enum wait_result result;
    bool recursive = Py_TYPE(self) != state->lock_type;

    memset(&w, 0, sizeof w);
    w.wait.object = lock_id(self);
    w.wait.flags = atomic_load_explicit(&self->lock.flags, memory_order_relaxed) |
                   (uint32_t)(recursive ? TL_RLOCK : TL_LOCK) << TL_KIND_SHIFT;
    w.wait.describe = lock_text;
    w.op = (PyObject *)self;
    w.lock = &self->lock;
    w.bare = bare;
    result = core_lock_wait(state, &w, timeout);
    if (hopeless != NULL)
        *hopeless = w.wait.hopeless;
    return result;
}

PyObject *core_lock_acquired(enum wait_result result)
{
    return result == WAIT_ERROR ? NULL : Py_NewRef(result == WAIT_GOT ? Py_True : Py_False);
}

PyObject *core_lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char *format)
{
    static char *names[] = {"name", NULL};
    PyObject *name = NULL;
    struct place place;
    struct lock_object *self;

    if (!(type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) { /* a subclass has its own arguments */
        name = kwargs == NULL ? NULL : PyDict_GetItemString(kwargs, "name");
        if (name != NULL && !PyUnicode_Check(name))
            name = NULL;
    } else if ((kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) || PyTuple_GET_SIZE(args) > 0) {
        if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &name))
            return NULL;
        if (name == Py_None)
            name = NULL;
        if (name != NULL && !PyUnicode_Check(name)) {
            PyErr_Format(PyExc_TypeError, "name must be a str or None, not %.100s", Py_TYPE(name)->tp_name);
            return NULL;
        }
    }
    self = (struct lock_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    atomic_init(&self->lock.word, 0);
    atomic_init(&self->lock.fair, 0);
    atomic_init(&self->lock.flags, TL_PRIVATE);
    atomic_init(&self->count, 0);
    core_place_here(&place);
    self->code = place.code;
    self->line = place.line;
    self->name = Py_XNewRef(name);
    self->weak = NULL;
    return (PyObject *)self;
}

void core_lock_dealloc(PyObject *op)
{
    struct lock_object *self = (struct lock_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(op);
    if (tl_watched())
        tl_gauge_drop(lock_id(self), TL_PRIVATE);
    Py_XDECREF(self->code);
    Py_XDECREF(self->name);
    type->tp_free(op);
    Py_DECREF(type);
}

PyObject *core_lock_repr(PyObject *op, bool recursive)
{
    struct lock_object *self = (struct lock_object *)op;
    uint64_t word = atomic_load(&self->lock.word);
    PyObject *kind, *name, *text;
    char owner[TL_NAME_SIZE + 40];
    uint32_t waiters;

    kind = PyType_GetName(Py_TYPE(op));
    if (kind == NULL)
        return NULL;
    name = self->name == NULL ? PyUnicode_FromString("") : PyUnicode_FromFormat(" name=%R", self->name);
    if (name == NULL) {
        Py_DECREF(kind);
        return NULL;
    }
    if ((word & TL_OWNER_MASK) == 0) {
        text = PyUnicode_FromFormat("<unlocked treadle.%U object%U%s at %p>", kind, name, recursive ? " count=0" : "", op);
    } else {
        core_owner_text(word, owner, sizeof owner);
        waiters = tl_waiters(lock_id(self), atomic_load(&self->lock.flags));
        if (recursive)
            text = PyUnicode_FromFormat("<locked treadle.%U object%U owner='%s' count=%u waiters=%u at %p>", kind, name,
                                        owner, (unsigned)atomic_load(&self->count), (unsigned)waiters, op);
        else
            text = PyUnicode_FromFormat("<locked treadle.%U object%U owner='%s' waiters=%u at %p>", kind, name, owner,
                                        (unsigned)waiters, op);
    }
    Py_DECREF(kind);
    Py_DECREF(name);
    return text;
}

/* -- Lock ----------------------------------------------------------------------------------------------------------- */

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return core_lock_new(type, args, kwargs, "|$O:Lock");
}

static PyObject *lock_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lock_object *self = (struct lock_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL)
        return NULL;
    if (tl_lock_try(&self->lock, me->token))
        Py_RETURN_TRUE;
    return core_lock_acquired(core_lock_block(core_state_of(op), self, 0, -1, NULL));
}

static PyObject *lock_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct lock_object *self = (struct lock_object *)op;
    struct tl_self *me = core_self();
    int64_t timeout = -1;
    if (me == NULL)
        return NULL;
    if ((nargs != 0 || kwnames != NULL) && core_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return NULL;
    if (tl_lock_try(&self->lock, me->token | TL_BARE))
        Py_RETURN_TRUE;
    if (timeout == 0)
        return PyBool_FromLong(tl_lock_barge(&self->lock, me->token | TL_BARE));
    return core_lock_acquired(core_lock_block(core_state_of(op), self, TL_BARE, timeout, NULL));
}

static PyObject *lock_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lock_object *self = (struct lock_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL)
        return NULL;
    if (!tl_lock_release(&self->lock, lock_id(self), me)) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *lock_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return lock_release(op, NULL);
}

static PyObject *lock_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((atomic_load(&((struct lock_object *)op)->lock.word) & TL_OWNER_MASK) != 0);
}

static PyObject *lock_reinit(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_store(&((struct lock_object *)op)->lock.word, 0);
    Py_RETURN_NONE;
}

static PyObject *lock_repr(PyObject *op)
{
    return core_lock_repr(op, false);
}

bool core_lock_is_ours(struct core_state *state, PyObject *lock)
{
    return Py_TYPE(lock) == state->lock_type || Py_TYPE(lock) == state->rlock_type;
}

bool core_lock_owned(PyObject *lock, struct tl_self *self)
{
    struct lock_object *op = (struct lock_object *)lock;
    uint64_t word = atomic_load(&op->lock.word);
    /* A plain lock may be released by anybody, so whoever holds it serves. */
    return (word & TL_OWNER_MASK) != 0 && (Py_TYPE(lock) == core_state_of(lock)->lock_type || tl_self_is(self, word));
}

int core_lock_save(PyObject *lock, struct tl_self *self, struct held *held)
{
    struct lock_object *op = (struct lock_object *)lock;
    held->bare = atomic_load(&op->lock.word) & TL_BARE;
    held->count = atomic_exchange(&op->count, 0);
    if (!tl_lock_release(&op->lock, lock_id(op), self)) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return -1;
    }
    return 0;
}

enum retaken core_lock_retake(PyObject *lock, struct tl_lock *word, const struct held *held, core_block *block,
                              bool *recovered)
{
    struct tl_self *me = core_self();
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    bool hopeless = false;
    if (me == NULL)
        return RETAKE_FAILED;
    while (!tl_lock_try(word, me->token | held->bare)) {
        if (block(lock, held->bare, recovered, &hopeless) == WAIT_GOT)
            break;
        if (hopeless) {
            Py_XDECREF(type);
            Py_XDECREF(value);
            Py_XDECREF(traceback);
            return RETAKE_FAILED;
        }
        if (type == NULL)
            PyErr_Fetch(&type, &value, &traceback); /* a signal handler raised: later, when the lock is held again */
        else
            PyErr_Clear();
    }
    if (type == NULL)
        return RETAKEN;
    PyErr_Restore(type, value, traceback);
    return RETAKEN_RAISING;
}

static enum wait_result block_again(PyObject *lock, uint64_t bare, bool *recovered, bool *hopeless)
{
    *recovered = false; /* a thread that ends holding it leaves it held */
    return core_lock_block(core_state_of(lock), (struct lock_object *)lock, bare, -1, hopeless);
}

int core_lock_restore(PyObject *lock, const struct held *held)
{
    struct lock_object *op = (struct lock_object *)lock;
    bool recovered;
    enum retaken how = core_lock_retake(lock, &op->lock, held, block_again, &recovered);
    if (how == RETAKE_FAILED)
        return -1;
    atomic_store_explicit(&op->count, held->count, memory_order_relaxed);
    return how == RETAKEN ? 0 : -1;
}

PyDoc_STRVAR(lock_doc,
"Lock(*, name=None)\n--\n\n"
"A mutual exclusion lock that knows its owner.\n\n"
"Like threading.Lock: any thread may release it.  A cycle of threads that wait for locks held by `with` raises\n"
"DeadlockError in one of them.  `name` shows in its repr and in such reports.  Thread-safe; for one process.");
PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
"Take the lock; wait at most `timeout` seconds (-1: forever).  Return whether it was taken.\n\n"
"Raises DeadlockError if the wait can never end, KeyboardInterrupt on Ctrl-C, Interrupted on Thread.interrupt().");
PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\nRelease the lock, whoever holds it.  RuntimeError if it is not locked.");
PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nWhether somebody holds the lock.");
PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\nTake the lock.");
PyDoc_STRVAR(exit_doc, "__exit__($self, /, *exc_info)\n--\n\nRelease the lock.");

static PyMethodDef lock_methods[] = {
    {"acquire", FAST(lock_acquire), METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"acquire_lock", FAST(lock_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire_lock($self, /, blocking=True, timeout=-1)\n--\n\nOld name of acquire()."},
    {"release", lock_release, METH_NOARGS, release_doc},
    {"release_lock", lock_release, METH_NOARGS, "release_lock($self, /)\n--\n\nOld name of release()."},
    {"locked", lock_locked, METH_NOARGS, locked_doc},
    {"locked_lock", lock_locked, METH_NOARGS, "locked_lock($self, /)\n--\n\nOld name of locked()."},
    {"__enter__", lock_enter, METH_NOARGS, enter_doc},
    {"__exit__", FAST(lock_exit), METH_FASTCALL, exit_doc},
    {"_at_fork_reinit", lock_reinit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

CORE_ORDER_METHODS(lock)
CORE_ORDER_WATCH(lock)

PyMemberDef core_lock_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct lock_object, weak), READONLY, NULL},
    {"name", T_OBJECT, offsetof(struct lock_object, name), READONLY, "The name it was given, or None."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)lock_doc},       {Py_tp_new, lock_new},         {Py_tp_dealloc, core_lock_dealloc},
    {Py_tp_repr, lock_repr},             {Py_tp_methods, lock_methods}, {Py_tp_members, core_lock_members},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "treadle.threading.Lock",
    .basicsize = sizeof(struct lock_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lock_slots,
};

int core_add_lock(PyObject *module, struct core_state *state)
{
    state->lock_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lock_spec, NULL);
    if (state->lock_type == NULL || core_light_methods(module, state->lock_type) < 0)
        return -1;
    return PyModule_AddType(module, state->lock_type);
}
