/* Event: one word, set (1) | somebody waits (2).  And listeners: callables that are called after set(), for those who
 * wait for several things at once, or in an event loop. */
#include "python/arguments.h"
#include "python/listeners.h"
#include "python/open_object.h"
#include "python/text.h"
#include "sync/lock_object.h"
#include "sync/sync.h"

#include <string.h>

#define SET 1u
#define WAITED 2u

struct event_object {
    OPEN_OBJECT_HEAD
    _Atomic uint32_t word;
    struct listeners listeners;
    _Atomic uint64_t owner; /* the token of the thread whose end sets it: a join; 0 for an ordinary event */
};

static uint64_t event_id(struct event_object *self)
{
    return (uint64_t)(uintptr_t)&self->word;
}

struct event_wait {
    struct wait wait;
    struct event_object *event;
};

static bool event_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct event_object *self = ((struct event_wait *)wait)->event;
    (void)me;
    (void)entitled;
    (void)inspect;
    if (atomic_load(&self->word) & SET)
        return true;
    return (atomic_fetch_or(&self->word, WAITED) & SET) != 0;
}

static tl_token event_edge(struct wait *wait, struct tl_self *me)
{
    (void)me;
    return atomic_load(&((struct event_wait *)wait)->event->owner);
}

static void event_text(struct wait *wait, char *text, size_t size)
{
    struct event_object *event = ((struct event_wait *)wait)->event;
    tl_token owner = atomic_load(&event->owner);
    char name[TL_NAME_SIZE + 40];
    if (owner == 0) {
        open_describe((PyObject *)event, "Event", text, size);
        return;
    }
    core_owner_text(owner, name, sizeof name);
    PyOS_snprintf(text, size, "the end of thread '%s' (join)", name);
}

static PyObject *event_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct event_object *self = (struct event_object *)open_alloc(type);
    (void)args;
    (void)kwargs;
    return (PyObject *)self;
}

static int event_init(PyObject *Py_UNUSED(op), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Event", names) ? 0 : -1;
}

static int event_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((struct event_object *)op)->listeners.all);
    return open_traverse(op, visit, arg);
}

static int event_clear_refs(PyObject *op)
{
    Py_CLEAR(((struct event_object *)op)->listeners.all);
    return open_clear(op);
}

static void event_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((struct event_object *)op)->listeners.all);
    open_dealloc(op);
}

static PyObject *wait_for_it(PyObject *op, int64_t timeout)
{
    struct event_object *self = (struct event_object *)op;
    struct event_wait w;
    enum wait_result result;
    /* SYNC POINT: event (acquire) */
    if (atomic_load_explicit(&self->word, memory_order_acquire) & SET)
        Py_RETURN_TRUE;
    memset(&w, 0, sizeof w);
    w.event = self;
    w.wait.object = event_id(self);
    w.wait.flags = TL_PRIVATE | (atomic_load(&self->owner) ? TL_JOIN : TL_EVENT) << TL_KIND_SHIFT;
    w.wait.claim_is_success = true;
    w.wait.look = event_look;
    w.wait.edge = atomic_load(&self->owner) ? event_edge : NULL;
    w.wait.describe = event_text;
    result = core_wait(core_state_of(op), &w.wait, timeout);
    return core_lock_acquired(result);
}

static PyObject *event_wait_method(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    int64_t timeout = -1;
    if (nargs + keywords > 1 ||
        (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "timeout"))) {
        PyErr_SetString(PyExc_TypeError, "wait() takes one optional argument, timeout");
        return NULL;
    }
    if (nargs + keywords == 1 && core_timeout(args[0], &timeout) < 0)
        return NULL;
    return wait_for_it(op, timeout);
}

static PyObject *event_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct event_object *self = (struct event_object *)op;
    /* SYNC POINT: event (release); and step (3) of parking: the mark goes before the waiters are looked up. */
    uint32_t old = atomic_exchange(&self->word, SET);
    if (old & WAITED)
        tl_notify(event_id(self), TL_PRIVATE, -1, NULL);
    listeners_tell(&self->listeners);
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_fetch_and(&((struct event_object *)op)->word, ~SET);
    Py_RETURN_NONE;
}

static PyObject *event_is_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((atomic_load_explicit(&((struct event_object *)op)->word, memory_order_acquire) & SET) != 0);
}

static PyObject *event_isSet(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (PyErr_WarnEx(PyExc_DeprecationWarning, "isSet() is deprecated, use is_set() instead", 1) < 0)
        return NULL;
    return event_is_set(op, NULL);
}

static PyObject *event_reinit(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    /* Nobody waits in the child of a fork; whether it is set stays. */
    atomic_fetch_and(&((struct event_object *)op)->word, SET);
    Py_RETURN_NONE;
}

static PyObject *event_listen(PyObject *op, PyObject *listener)
{
    return listeners_change(&((struct event_object *)op)->listeners, listener, NULL);
}

static PyObject *event_unlisten(PyObject *op, PyObject *listener)
{
    return listeners_change(&((struct event_object *)op)->listeners, NULL, listener);
}

static PyObject *event_get_owner(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct event_object *)op)->owner));
}

static int event_set_owner(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long long token = value == NULL ? 0 : PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred())
        return -1;
    atomic_store(&((struct event_object *)op)->owner, token);
    return 0;
}

static PyObject *event_repr(PyObject *op)
{
    struct event_object *self = (struct event_object *)op;
    PyObject *name = open_type_name(op), *text;
    unsigned waiters = tl_waiters(event_id(self), TL_PRIVATE);
    const char *state = atomic_load(&self->word) & SET ? "set" : "unset";
    if (name == NULL)
        return NULL;
    text = waiters == 0 ? PyUnicode_FromFormat("<%U at %p: %s>", name, op, state)
                        : PyUnicode_FromFormat("<%U at %p: %s waiters=%u>", name, op, state, waiters);
    Py_DECREF(name);
    return text;
}

PyDoc_STRVAR(event_doc,
"Event()\n--\n\n"
"A flag that threads can wait for.  Like threading.Event.  Thread-safe; for one process.");
PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until the flag is set, for at most `timeout` seconds (None: forever).  Return whether it was.");

static PyMethodDef event_methods[] = {
    {"wait", FAST(event_wait_method), METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the flag and wake all that wait for it."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nTake the flag back."},
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nWhether the flag is set."},
    {"isSet", event_isSet, METH_NOARGS, "isSet($self, /)\n--\n\nDeprecated name of is_set()."},
    {"_listen", event_listen, METH_O, NULL},
    {"_unlisten", event_unlisten, METH_O, NULL},
    {"_at_fork_reinit", event_reinit, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef event_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_owner", event_get_owner, event_set_owner, "Token of the thread whose end sets it, or 0.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)event_doc},   {Py_tp_new, event_new},           {Py_tp_init, event_init},
    {Py_tp_traverse, event_traverse}, {Py_tp_clear, event_clear_refs},  {Py_tp_dealloc, event_dealloc},
    {Py_tp_repr, event_repr},         {Py_tp_methods, event_methods},   {Py_tp_members, open_members},
    {Py_tp_getset, event_getset},     {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "treadle.threading.Event",
    .basicsize = sizeof(struct event_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = event_slots,
};

int core_add_event(PyObject *module, struct core_state *state)
{
    state->event_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &event_spec, NULL);
    return state->event_type == NULL ? -1 : PyModule_AddType(module, state->event_type);
}
