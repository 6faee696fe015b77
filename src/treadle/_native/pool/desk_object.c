/* Desk: where a pool takes in what is submitted.
 *
 * A simple call is taken in by one call of C, of which no signal handler sees the middle: it is encoded, gets its future and
 * its task, and goes to an idle worker, into the queue, or to what waits here for the reactor.  Simple is: a function that is
 * remembered, small plain arguments without keywords, no context variables, no options.  Everything else is the affair of
 * pool/pool.py, which does the same at length.
 *
 * What waits here keeps its order, and goes before whatever else the brain is told of; the reactor is woken once for all of
 * it (pool/driver.py: `_absorb`). */
#include "sync/lock_object.h"
#include "values/codec.h"
#include "tasks/future.h"
#include "pool/direct.h"
#include "pool/known.h"
#include "pool/pool.h"

struct desk_object {
    PyObject_HEAD
    PyObject *driver, *state, *lock, *rouse; /* owned; rouse() has the driver take in what waits here */
    /* A list of tasks, owned.  Changed in the desk's critical section.  Invariant: the brain's `posted` says whether it has any. */
    PyObject *waiting;
    PyObject *known;      /* a dict: id of a function -> Known; NULL: closed, nothing is simple.  The same */
    _Atomic bool roused;  /* rouse() was called, and has not led to take() so far */
};

static int desk_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct desk_object *self = (struct desk_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->driver);
    Py_VISIT(self->state);
    Py_VISIT(self->lock);
    Py_VISIT(self->rouse);
    Py_VISIT(self->waiting);
    Py_VISIT(self->known);
    return 0;
}

static int desk_clear(PyObject *op)
{
    struct desk_object *self = (struct desk_object *)op;
    Py_CLEAR(self->driver);
    Py_CLEAR(self->state);
    Py_CLEAR(self->lock);
    Py_CLEAR(self->rouse);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->known);
    return 0;
}

static void desk_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    desk_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *desk_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct core_state *core = PyType_GetModuleState(type);
    struct desk_object *self;
    PyObject *driver, *state, *lock, *rouse;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Desk() takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO!O!O:Desk", &driver, core->brain_type, &state, core->lock_type, &lock, &rouse))
        return NULL;
    self = (struct desk_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->driver = Py_NewRef(driver);
    self->state = Py_NewRef(state);
    self->lock = Py_NewRef(lock);
    self->rouse = Py_NewRef(rouse);
    self->waiting = PyList_New(0);
    if (self->waiting == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* -- what waits ----------------------------------------------------------------------------------------------------------- */

/* One more, or a list of them, for the reactor.  0, or -1 with an exception. */
static int leave_here(struct desk_object *self, PyObject *task, bool many)
{
    struct state_object *state = (struct state_object *)self->state;
    PyObject *done;
    int rc;
    /* SYNC POINT: desk.  First have it wait, then look whether somebody was told; take() says first that nobody is, then takes.
     * So nothing waits untold. */
    LOCKED(self);
    atomic_store(&state->posted, true);
    if (self->waiting == NULL) /* only after tp_clear */
        rc = 0;
    else if (many)
        rc = PyList_SetSlice(self->waiting, PyList_GET_SIZE(self->waiting), PyList_GET_SIZE(self->waiting), task);
    else
        rc = PyList_Append(self->waiting, task);
    UNLOCKED();
    if (rc < 0 || atomic_load(&self->roused))
        return rc;
    done = PyObject_CallNoArgs(self->rouse);
    if (done == NULL)
        return -1;
    Py_DECREF(done);
    return 0;
}

static PyObject *desk_leave(PyObject *op, PyObject *tasks)
{
    if (!PyList_Check(tasks)) {
        PyErr_SetString(PyExc_TypeError, "leave takes a list of tasks");
        return NULL;
    }
    if (leave_here((struct desk_object *)op, tasks, true) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *desk_take(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct desk_object *self = (struct desk_object *)op;
    PyObject *fresh, *found;
    fresh = PyList_New(0);
    if (fresh == NULL)
        return NULL;
    /* SYNC POINT: desk */
    atomic_store(&self->roused, false);
    LOCKED(self);
    found = self->waiting;
    self->waiting = fresh;
    atomic_store(&((struct state_object *)self->state)->posted, false);
    UNLOCKED();
    return found;
}

/* -- a simple call ---------------------------------------------------------------------------------------------------------- */

/* The remembered pickle of a function, as a new reference; NULL without an exception: there is none. */
static PyObject *pickle_of(struct core_state *core, PyObject *known, PyObject *fn)
{
    PyObject *key = PyLong_FromVoidPtr(fn), *entry = NULL, *function = NULL;
    if (key != NULL && known_find(known, key, &entry) > 0) {
        function = Py_XNewRef(known_function(core, entry));
        Py_DECREF(entry);
    }
    Py_XDECREF(key);
    PyErr_Clear();
    return function;
}

static bool has_variables(void)
{
    PyObject *context = PyContext_CopyCurrent();
    Py_ssize_t size = context == NULL ? -1 : PyObject_Size(context);
    Py_XDECREF(context);
    PyErr_Clear();
    return size != 0;
}

/* A future with its task, of a call that travels as `payload`.  Takes `function` and `payload`. */
static struct future_object *make(struct core_state *core, struct desk_object *self, PyObject *fn, PyObject *args,
                                  PyObject *function, PyObject *payload)
{
    struct call_object *call = (struct call_object *)core->call_type->tp_alloc(core->call_type, 0);
    struct task_object *task = NULL;
    struct future_object *future = NULL;
    PyTypeObject *type = (PyTypeObject *)core->future_class;
    if (call == NULL) {
        Py_DECREF(function);
        Py_DECREF(payload);
        return NULL;
    }
    call->fn = Py_NewRef(fn);
    call->args = Py_NewRef(args);
    call->kwargs = Py_NewRef(Py_None);
    call->function = function;
    call->payload = payload;
    call->context = Py_NewRef(Py_None);
    call->variables = Py_NewRef(Py_None);
    task = (struct task_object *)core->task_type->tp_alloc(core->task_type, 0);
    if (task == NULL) {
        Py_DECREF(call);
        return NULL;
    }
    task->call = (PyObject *)call;
    task->index = Py_NewRef(Py_None);
    task->options = Py_NewRef(core->default_options);
    task->count = 1;
    future = (struct future_object *)type->tp_alloc(type, 0);
    if (future == NULL) {
        Py_DECREF(task);
        return NULL;
    }
    task->sink = Py_NewRef(future);
    future->driver = Py_NewRef(self->driver);
    atomic_store_explicit(&future->task, (PyObject *)task, memory_order_relaxed);
    return future;
}

/* It goes to an idle worker, or joins a queue that nobody wants anything of now.  False: neither; raises nothing. */
static bool hand_over(struct core_state *core, struct desk_object *self, struct task_object *task)
{
    struct lock_object *lock = (struct lock_object *)self->lock;
    bool taken;
    if (atomic_load(&((struct state_object *)self->state)->posted) || !dispatch_try(self->lock, core))
        return false;
    taken = dispatch_offer(core, (struct state_object *)self->state, task);
    tl_lock_release(&lock->lock, lock_id(lock), tl_self());
    PyErr_Clear();
    return taken;
}

/* submit(fn, args, kwargs) */
static PyObject *desk_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = core_state_of(op);
    struct desk_object *self = (struct desk_object *)op;
    struct future_object *future;
    PyObject *known, *function, *payload, *task;
    char small[CODEC_ROOM];
    Py_ssize_t size;
    if (nargs != 3 || !PyTuple_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "submit(fn, args, kwargs)");
        return NULL;
    }
    LOCKED(op);
    known = Py_XNewRef(self->known);
    UNLOCKED();
    if (known == NULL)
        Py_RETURN_NONE;
    if (atomic_load(&((struct state_object *)self->state)->closing) || core->future_class == NULL || core->default_options == NULL ||
        (args[2] != Py_None && (!PyDict_CheckExact(args[2]) || PyDict_GET_SIZE(args[2]) > 0)) || has_variables() ||
        (size = codec_encode(args[1], small, sizeof small)) < 0 || (function = pickle_of(core, known, args[0])) == NULL) {
        Py_DECREF(known);
        Py_RETURN_NONE;
    }
    Py_DECREF(known);
    payload = PyBytes_FromStringAndSize(small, size);
    if (payload == NULL) {
        Py_DECREF(function);
        return NULL;
    }
    future = make(core, self, args[0], args[1], function, payload);
    if (future == NULL)
        return NULL;
    task = future_task((PyObject *)future);
    if (task != NULL && !hand_over(core, self, (struct task_object *)task) && leave_here(self, task, false) < 0)
        Py_CLEAR(future);
    Py_XDECREF(task);
    return (PyObject *)future;
}

static PyObject *desk_open(PyObject *op, PyObject *known)
{
    struct desk_object *self = (struct desk_object *)op;
    PyObject *old;
    if (known != Py_None && !PyDict_CheckExact(known)) {
        PyErr_SetString(PyExc_TypeError, "open takes a dict, or None");
        return NULL;
    }
    LOCKED(op);
    old = self->known;
    self->known = known == Py_None ? NULL : Py_NewRef(known);
    UNLOCKED();
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyObject *get_any(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct state_object *)((struct desk_object *)op)->state)->posted));
}

static PyObject *get_roused(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct desk_object *)op)->roused));
}

static int set_roused(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    atomic_store(&((struct desk_object *)op)->roused, value == Py_True);
    return 0;
}

PyDoc_STRVAR(desk_doc,
"Desk(driver, state, lock, rouse)\n--\n\n"
"Where a pool takes in what is submitted.  `rouse()` is called when tasks wait here for `take`, by any thread; it sets\n"
"`roused` when that is sure to be called.  Thread-safe.");

static PyMethodDef desk_methods[] = {
    {"submit", FAST(desk_submit), METH_FASTCALL,
     "submit($self, fn, args, kwargs, /)\n--\n\n"
     "Take a simple call in, and return its future; None, and nothing has happened, if it is not simple."},
    {"leave", desk_leave, METH_O, "leave($self, tasks, /)\n--\n\nHave these wait for `take`."},
    {"take", desk_take, METH_NOARGS, "take($self, /)\n--\n\nAll that waits, in its order."},
    {"open", desk_open, METH_O,
     "open($self, known, /)\n--\n\nFrom now on calls of these functions (a dict of `Known`, by id) may be simple; None: no calls."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef desk_getset[] = {
    {"any", get_any, NULL, "Does anything wait?", NULL},
    {"roused", get_roused, set_roused, "Is somebody sure to call `take`?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot desk_slots[] = {
    {Py_tp_doc, (void *)desk_doc},     {Py_tp_new, desk_make},         {Py_tp_traverse, desk_traverse},
    {Py_tp_clear, desk_clear},         {Py_tp_dealloc, desk_dealloc},  {Py_tp_methods, desk_methods},
    {Py_tp_getset, desk_getset},       {0, NULL},
};

static PyType_Spec desk_spec = {
    .name = "treadle._native._core.Desk",
    .basicsize = sizeof(struct desk_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = desk_slots,
};

int core_add_desk(PyObject *module, struct core_state *core)
{
    core->desk_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &desk_spec, NULL);
    return core->desk_type == NULL ? -1 : PyModule_AddType(module, core->desk_type);
}
