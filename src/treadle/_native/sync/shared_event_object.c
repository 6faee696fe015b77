/* Event in shared memory: one word, set (1) | somebody waits (2). */
#include "python/arguments.h"
#include "sync/shared_object.h"
#include "system/points.h"

#include <string.h>

#define SET 1u
#define WAITED 2u

struct event_wait {
    struct wait wait;
    struct shared_object *event;
};

static _Atomic uint32_t *word_of(struct shared_object *self)
{
    return &self->slot->u.event.word;
}

static bool look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct shared_object *self = ((struct event_wait *)wait)->event;
    (void)me;
    (void)entitled;
    (void)inspect;
    if (atomic_load(word_of(self)) & SET)
        return true;
    return (atomic_fetch_or(word_of(self), WAITED) & SET) != 0;
}

static void describe(struct wait *wait, char *text, size_t size)
{
    shared_describe((PyObject *)((struct event_wait *)wait)->event, "Event", text, size);
}

static PyObject *event_wait(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct shared_object *self = (struct shared_object *)op;
    struct event_wait w;
    int64_t timeout;
    if (!shared_ready(self) || core_wait_args(args, kwargs, &timeout) < 0)
        return NULL;
    /* SYNC POINT: event (acquire) */
    if (atomic_load_explicit(word_of(self), memory_order_acquire) & SET)
        Py_RETURN_TRUE;
    if (timeout == 0)
        Py_RETURN_FALSE;
    memset(&w, 0, sizeof w);
    w.event = self;
    w.wait.object = self->id;
    w.wait.flags = TL_EVENT << TL_KIND_SHIFT;
    w.wait.claim_is_success = true;
    w.wait.look = look;
    w.wait.describe = describe;
    return core_lock_acquired(core_wait(core_state_of(op), &w.wait, timeout));
}

static PyObject *event_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    uint32_t old;
    if (!shared_ready(self))
        return NULL;
    /* SYNC POINT: event (release); and step (3) of parking: the mark goes before the waiters are looked up. */
    old = atomic_exchange(word_of(self), SET);
    TL_POINT("event.set.set");
    if (old & WAITED)
        tl_notify(self->id, 0, -1, NULL);
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    atomic_fetch_and(word_of(self), ~SET);
    Py_RETURN_NONE;
}

static PyObject *event_is_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    if (!shared_ready(self))
        return NULL;
    return PyBool_FromLong((atomic_load_explicit(word_of(self), memory_order_acquire) & SET) != 0);
}

/* _open(name) */
static PyObject *event_open(PyObject *op, PyObject *name)
{
    if (shared_make(op, TL_SLOT_EVENT, name) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until the flag is set, for at most `timeout` seconds (None: forever).  Return whether it was.");

static PyMethodDef methods[] = {
    {"wait", FAST(event_wait), METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the flag and wake all that wait for it."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nTake the flag back."},
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nWhether the flag is set."},
    {"_open", event_open, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},   {Py_tp_traverse, open_traverse},  {Py_tp_clear, open_clear},
    {Py_tp_dealloc, shared_dealloc}, {Py_tp_members, open_members}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "treadle._native._core.SharedEvent",
    .basicsize = sizeof(struct shared_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_add_shared_event(PyObject *module, struct core_state *state)
{
    PyTypeObject *type = shared_add_type(module, &spec, state->shared_type, "SharedEvent");
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
