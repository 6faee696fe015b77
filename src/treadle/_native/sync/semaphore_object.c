/* Semaphore and BoundedSemaphore: one word, value << 1 | somebody waits. */
#include "python/arguments.h"
#include "python/light.h"
#include "python/open_object.h"
#include "sync/lock_object.h"
#include "sync/sync.h"

#include <string.h>

#define WAITED ((uint64_t)1)
#define MOST ((uint64_t)1 << 62)

struct semaphore_object {
    OPEN_OBJECT_HEAD
    _Atomic uint64_t word;
    uint64_t bound; /* UINT64_MAX: none */
};

static uint64_t semaphore_id(struct semaphore_object *self)
{
    return (uint64_t)(uintptr_t)&self->word;
}

static bool try_take(struct semaphore_object *self)
{
    uint64_t word = atomic_load_explicit(&self->word, memory_order_relaxed);
    while (word >> 1 != 0)
        /* SYNC POINT: permit (acquire) */
        if (atomic_compare_exchange_weak_explicit(&self->word, &word, word - 2, memory_order_seq_cst,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Wake n waiters; the mark goes when none is left.  The waiter publishes, sets the mark, looks; this takes the mark off
 * and looks for publications: one of the two sees the other. */
static void wake(struct semaphore_object *self, int64_t n)
{
    struct tl_woken woken = tl_notify(semaphore_id(self), TL_PRIVATE, n, NULL);
    if (woken.left > 0)
        return;
    atomic_fetch_and(&self->word, ~WAITED);
    if (tl_waiters(semaphore_id(self), TL_PRIVATE) > 0) {
        uint64_t word = atomic_fetch_or(&self->word, WAITED);
        if (word >> 1 != 0)
            tl_notify(semaphore_id(self), TL_PRIVATE, (int64_t)(word >> 1), NULL);
    }
}

/* False if that would exceed the bound. */
static bool give(struct semaphore_object *self, uint64_t n)
{
    uint64_t word = atomic_load_explicit(&self->word, memory_order_relaxed);
    do {
        if ((word >> 1) + n > self->bound || (word >> 1) + n > MOST)
            return false;
        /* SYNC POINT: permit (release) */
    } while (!atomic_compare_exchange_weak(&self->word, &word, word + (n << 1)));
    if (word & WAITED)
        wake(self, (int64_t)n);
    return true;
}

struct semaphore_wait {
    struct wait wait;
    struct semaphore_object *semaphore;
};

static bool semaphore_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct semaphore_object *self = ((struct semaphore_wait *)wait)->semaphore;
    (void)me;
    (void)entitled;
    (void)inspect;
    if (try_take(self))
        return true;
    atomic_fetch_or(&self->word, WAITED);
    return try_take(self);
}

static void semaphore_leave(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct semaphore_object *self = ((struct semaphore_wait *)wait)->semaphore;
    (void)me;
    if (claimed && atomic_load(&self->word) >> 1 != 0)
        wake(self, 1);
}

static void semaphore_text(struct wait *wait, char *text, size_t size)
{
    open_describe((PyObject *)((struct semaphore_wait *)wait)->semaphore, "Semaphore", text, size);
}

static PyObject *semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct semaphore_object *self = (struct semaphore_object *)open_alloc(type);
    (void)args;
    (void)kwargs;
    if (self != NULL) {
        atomic_init(&self->word, 2);
        self->bound = UINT64_MAX;
    }
    return (PyObject *)self;
}

static int init(PyObject *op, PyObject *args, PyObject *kwargs, bool bounded)
{
    static char *names[] = {"value", NULL};
    struct semaphore_object *self = (struct semaphore_object *)op;
    long long value = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|L:Semaphore", names, &value))
        return -1;
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return -1;
    }
    if ((uint64_t)value > MOST) {
        PyErr_SetString(PyExc_OverflowError, "semaphore initial value is too large");
        return -1;
    }
    atomic_store(&self->word, (uint64_t)value << 1);
    self->bound = bounded ? (uint64_t)value : UINT64_MAX;
    return 0;
}

static int semaphore_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return init(op, args, kwargs, false);
}

static int bounded_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return init(op, args, kwargs, true);
}

static PyObject *take(PyObject *op, int64_t timeout)
{
    struct semaphore_object *self = (struct semaphore_object *)op;
    struct semaphore_wait w;
    if (try_take(self))
        Py_RETURN_TRUE;
    if (timeout == 0)
        Py_RETURN_FALSE;
    memset(&w, 0, sizeof w);
    w.wait.object = semaphore_id(self);
    w.wait.flags = TL_PRIVATE | TL_SEMAPHORE << TL_KIND_SHIFT;
    w.wait.look = semaphore_look;
    w.wait.leave = semaphore_leave;
    w.wait.describe = semaphore_text;
    w.semaphore = self;
    return core_lock_acquired(core_wait(core_state_of(op), &w.wait, timeout));
}

static PyObject *semaphore_acquire(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"blocking", "timeout", NULL};
    PyObject *limit = NULL;
    int blocking = 1;
    int64_t timeout;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pO:acquire", names, &blocking, &limit))
        return NULL;
    if (!blocking && limit != NULL && limit != Py_None) {
        PyErr_SetString(PyExc_ValueError, "can't specify timeout for non-blocking acquire");
        return NULL;
    }
    if (core_timeout(limit, &timeout) < 0)
        return NULL;
    return take(op, blocking ? timeout : 0);
}

static PyObject *semaphore_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return take(op, -1);
}

static PyObject *give_back(PyObject *op, uint64_t n)
{
    if (!give((struct semaphore_object *)op, n)) {
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *semaphore_release(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    long long n = 1;
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs + keywords > 1 || (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "n"))) {
        PyErr_SetString(PyExc_TypeError, "release() takes one optional argument, n");
        return NULL;
    }
    if (nargs + keywords == 1) {
        n = PyLong_AsLongLong(args[0]);
        if (n == -1 && PyErr_Occurred())
            return NULL;
        if (n < 1) {
            PyErr_SetString(PyExc_ValueError, "n must be one or more");
            return NULL;
        }
    }
    return give_back(op, (uint64_t)n);
}

static PyObject *semaphore_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return give_back(op, 1);
}

static PyObject *semaphore_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(atomic_load(&((struct semaphore_object *)op)->word) >> 1 == 0);
}

static PyObject *semaphore_value(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct semaphore_object *)op)->word) >> 1);
}

static PyObject *semaphore_initial(PyObject *op, void *Py_UNUSED(closure))
{
    struct semaphore_object *self = (struct semaphore_object *)op;
    if (self->bound == UINT64_MAX) {
        PyErr_SetString(PyExc_AttributeError, "_initial_value");
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(self->bound);
}

static PyObject *semaphore_repr(PyObject *op)
{
    struct semaphore_object *self = (struct semaphore_object *)op;
    PyObject *name = open_type_name(op), *text;
    unsigned waiters = tl_waiters(semaphore_id(self), TL_PRIVATE);
    unsigned long long value = atomic_load(&self->word) >> 1;
    char tail[64] = "";
    if (name == NULL)
        return NULL;
    if (waiters > 0)
        PyOS_snprintf(tail, sizeof tail, " waiters=%u", waiters);
    if (self->bound == UINT64_MAX)
        text = PyUnicode_FromFormat("<%U at %p: value=%llu%s>", name, op, value, tail);
    else
        text = PyUnicode_FromFormat("<%U at %p: value=%llu/%llu%s>", name, op, value, (unsigned long long)self->bound,
                                    tail);
    Py_DECREF(name);
    return text;
}

PyDoc_STRVAR(semaphore_doc,
"Semaphore(value=1)\n--\n\n"
"A counter of permits: acquire() takes one and waits while there is none, release() gives some.\n\n"
"Like threading.Semaphore.  ValueError if value < 0.  Thread-safe; for one process.");
PyDoc_STRVAR(bounded_doc,
"BoundedSemaphore(value=1)\n--\n\n"
"A Semaphore that raises ValueError when it is released above its first value.  Thread-safe; for one process.");
PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=None)\n--\n\n"
"Take a permit; wait at most `timeout` seconds (None: forever).  Return whether one was taken.");
PyDoc_STRVAR(release_doc,
"release($self, /, n=1)\n--\n\nGive n permits, and wake as many waiters.  ValueError if n < 1.");

static PyMethodDef semaphore_methods[] = {
    {"acquire", FAST(semaphore_acquire), METH_VARARGS | METH_KEYWORDS, acquire_doc},
    {"release", FAST(semaphore_release), METH_FASTCALL | METH_KEYWORDS, release_doc},
    {"locked", semaphore_locked, METH_NOARGS, "locked($self, /)\n--\n\nWhether acquire() would have to wait."},
    {"__enter__", semaphore_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(semaphore_exit), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_value", semaphore_value, NULL, "The permits that are left.", NULL},
    {"_initial_value", semaphore_initial, NULL, "The most permits that there can be.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)semaphore_doc},  {Py_tp_new, semaphore_new},       {Py_tp_init, semaphore_init},
    {Py_tp_traverse, open_traverse},     {Py_tp_clear, open_clear},        {Py_tp_dealloc, open_dealloc},
    {Py_tp_repr, semaphore_repr},        {Py_tp_methods, semaphore_methods},
    {Py_tp_members, open_members},       {Py_tp_getset, semaphore_getset}, {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "treadle.threading.Semaphore",
    .basicsize = sizeof(struct semaphore_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

static PyType_Slot bounded_slots[] = {
    {Py_tp_doc, (void *)bounded_doc},
    {Py_tp_init, bounded_init},         {Py_tp_traverse, open_traverse},     {Py_tp_clear, open_clear},
    {Py_tp_dealloc, open_dealloc},
    {0, NULL},
};

static PyType_Spec bounded_spec = {
    .name = "treadle.threading.BoundedSemaphore",
    .basicsize = sizeof(struct semaphore_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bounded_slots,
};

int core_add_semaphore(PyObject *module, struct core_state *state)
{
    PyObject *bounded;
    int rc;
    state->semaphore_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &semaphore_spec, NULL);
    if (state->semaphore_type == NULL ||
        core_light_methods(module, state->semaphore_type) < 0 ||
        PyModule_AddType(module, state->semaphore_type) < 0)
        return -1;
    bounded = PyType_FromModuleAndSpec(module, &bounded_spec, (PyObject *)state->semaphore_type);
    if (bounded == NULL)
        return -1;
    rc = PyModule_AddType(module, (PyTypeObject *)bounded);
    Py_DECREF(bounded);
    return rc;
}
