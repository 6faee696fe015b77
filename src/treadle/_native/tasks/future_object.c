/* The part of a future that is hot: made, finished and read, while nobody waits for it.
 *
 * Everything else is inherited from concurrent.futures.Future, whose fields it finds here under their names; lists and
 * the condition are made when they are first asked for.  Who asks for the condition says so in the word; from then on
 * only who holds it changes the state.  So a future can be finished by one compare-and-swap exactly while nobody can be
 * waiting for it. */
#include "tasks/future.h"
#include "python/wait.h"
#include "values/payload.h"
#include "tasks/inbox.h"
#include "tasks/tasks.h"
#include "board/park.h"

static const char *const state_names[] = {"PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"};
#define STATES 5

static struct future_object *as_future(PyObject *op) { return (struct future_object *)op; }

static PyObject *future_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return type->tp_alloc(type, 0);
}

static int future_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *driver, *old;
    if ((kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) || !PyArg_ParseTuple(args, "O:Future", &driver)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "Future() takes no keyword arguments");
        return -1;
    }
    old = as_future(op)->driver;
    as_future(op)->driver = Py_NewRef(driver);
    Py_XDECREF(old);
    return 0;
}

static int future_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct future_object *self = as_future(op);
    Py_VISIT(self->result);
    Py_VISIT(self->exception);
    Py_VISIT(atomic_load_explicit(&self->condition, memory_order_relaxed));
    Py_VISIT(atomic_load_explicit(&self->waiters, memory_order_relaxed));
    Py_VISIT(atomic_load_explicit(&self->callbacks, memory_order_relaxed));
    Py_VISIT(self->driver);
    Py_VISIT(atomic_load_explicit(&self->task, memory_order_relaxed));
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static void drop(_Atomic(PyObject *) *field)
{
    Py_XDECREF(atomic_exchange(field, NULL));
}

static int future_clear(PyObject *op)
{
    struct future_object *self = as_future(op);
    Py_CLEAR(self->result);
    Py_CLEAR(self->exception);
    drop(&self->condition);
    drop(&self->waiters);
    drop(&self->callbacks);
    Py_CLEAR(self->driver);
    drop(&self->task);
    return 0;
}

/* It goes, and nobody has looked at the failure in it.  As a finalizer, not when it is freed: in a cycle that is being
 * collected the exception may have been emptied by then. */
static void future_finalize(PyObject *op)
{
    struct future_object *self = as_future(op);
    struct core_state *state;
    PyObject *exception = self->exception, *driver = self->driver, *done;
    PyObject *type, *value, *traceback;
    if (!(atomic_load_explicit(&self->word, memory_order_relaxed) & FUTURE_UNREAD))
        return;
    atomic_fetch_and(&self->word, ~FUTURE_UNREAD);
    state = core_state_of(op);
    if (state == NULL || state->unread == NULL || exception == NULL)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    done = PyObject_CallFunctionObjArgs(state->unread, exception, driver == NULL ? Py_None : driver, NULL);
    if (done == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

static void future_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    future_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* -- the fields of the standard future ----------------------------------------------------------------------------------- */

static struct core_state *find_state(PyObject *op)
{
    return core_state_of(op);
}

static PyObject *get_state(PyObject *op, void *Py_UNUSED(closure))
{
    /* SYNC POINT: future (acquire) */
    uint32_t word = atomic_load_explicit(&as_future(op)->word, memory_order_acquire) & FUTURE_STATE;
    return Py_NewRef(find_state(op)->future_states[word < STATES ? word : 0]);
}

static int set_state(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct future_object *self = as_future(op);
    uint32_t i, word = atomic_load_explicit(&self->word, memory_order_relaxed);
    if (value == NULL || !PyUnicode_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "the state of a future is a str");
        return -1;
    }
    for (i = 0; i < STATES; i++)
        if (PyUnicode_CompareWithASCIIString(value, state_names[i]) == 0) {
            while (!atomic_compare_exchange_weak(&self->word, &word, (word & ~FUTURE_STATE) | i))
                continue;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "a future has no state %R", value);
    return -1;
}

/* A field that is made when it is asked for. */
static PyObject *get_made(_Atomic(PyObject *) *field, PyObject *(*make)(PyObject *op), PyObject *op)
{
    PyObject *value = atomic_load_explicit(field, memory_order_acquire), *none = NULL;
    if (value == NULL) {
        value = make(op);
        if (value == NULL)
            return NULL;
        if (!atomic_compare_exchange_strong(field, &none, value)) {
            Py_DECREF(value);
            value = none;
        }
    }
    return Py_NewRef(value);
}

static int set_made(_Atomic(PyObject *) *field, PyObject *value)
{
    Py_XINCREF(value);
    Py_XDECREF(atomic_exchange(field, value)); /* who replaces one of these holds the condition */
    return 0;
}

static PyObject *make_list(PyObject *Py_UNUSED(op))
{
    return PyList_New(0);
}

static PyObject *make_condition(PyObject *op)
{
    return PyObject_CallNoArgs((PyObject *)find_state(op)->condition_type);
}

static PyObject *get_condition(PyObject *op, void *Py_UNUSED(closure))
{
    struct future_object *self = as_future(op);
    PyObject *condition = get_made(&self->condition, make_condition, op);
    if (condition != NULL)
        /* SYNC POINT: future (watch): before anybody takes the condition, who finishes it knows that there is one. */
        if (atomic_fetch_or(&self->word, FUTURE_WATCHED) & FUTURE_UNREAD)
            atomic_fetch_and(&self->word, ~FUTURE_UNREAD);
    return condition;
}

static int set_condition(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    atomic_fetch_or(&as_future(op)->word, FUTURE_WATCHED);
    return set_made(&as_future(op)->condition, value);
}

static PyObject *get_waiters(PyObject *op, void *Py_UNUSED(closure))
{
    return get_made(&as_future(op)->waiters, make_list, op);
}

static int set_waiters(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    return set_made(&as_future(op)->waiters, value);
}

static PyObject *get_callbacks(PyObject *op, void *Py_UNUSED(closure))
{
    return get_made(&as_future(op)->callbacks, make_list, op);
}

static int set_callbacks(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    return set_made(&as_future(op)->callbacks, value);
}

static PyObject *get_task(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *task;
    LOCKED(op);
    task = atomic_load(&as_future(op)->task);
    task = Py_NewRef(task == NULL ? Py_None : task);
    UNLOCKED();
    return task;
}

static void change_task(PyObject *op, PyObject *value)
{
    PyObject *old;
    LOCKED(op);
    old = atomic_exchange(&as_future(op)->task, Py_XNewRef(value));
    UNLOCKED();
    Py_XDECREF(old);
}

static int set_task(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    change_task(op, value == Py_None ? NULL : value);
    return 0;
}

/* -- finishing and reading ----------------------------------------------------------------------------------------------- */

/* Finish it if nobody can be waiting.  False: the standard way is to be gone. */
static bool finish(PyObject *op, PyObject *value)
{
    struct future_object *self = as_future(op);
    uint32_t pending = FUTURE_PENDING;
    if (atomic_load_explicit(&self->word, memory_order_relaxed) != FUTURE_PENDING)
        return false;
    atomic_store_explicit(&self->finisher, tl_self_here == NULL ? 0 : tl_self_here->records[0], memory_order_relaxed);
    /* A task ends once, so nobody else writes this; and nobody reads it before the word says finished. */
    Py_XSETREF(self->result, Py_NewRef(value));
    /* SYNC POINT: future (release) */
    return atomic_compare_exchange_strong_explicit(&self->word, &pending, FUTURE_FINISHED, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* The same for a failure: from here on, whoever looks at it asks for the condition. */
static PyObject *future_fail(PyObject *op, PyObject *exception)
{
    struct future_object *self = as_future(op);
    uint32_t pending = FUTURE_PENDING;
    if (atomic_load_explicit(&self->word, memory_order_relaxed) != FUTURE_PENDING)
        Py_RETURN_FALSE;
    Py_XSETREF(self->exception, Py_NewRef(exception));
    /* SYNC POINT: future (release) */
    if (atomic_compare_exchange_strong_explicit(&self->word, &pending, FUTURE_FINISHED | FUTURE_UNREAD,
                                                memory_order_acq_rel, memory_order_relaxed))
        Py_RETURN_TRUE;
    Py_RETURN_FALSE;
}

/* And for a value. */
static PyObject *future_succeed(PyObject *op, PyObject *value)
{
    return PyBool_FromLong(finish(op, value));
}

static PyObject *get_unread(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&as_future(op)->word) & FUTURE_UNREAD);
}

PyObject *future_task(PyObject *op)
{
    PyObject *task = get_task(op, NULL);
    if (task == Py_None)
        Py_CLEAR(task);
    return task;
}

bool future_finish(PyObject *op, PyObject *value)
{
    if (!finish(op, value))
        return false;
    change_task(op, NULL);
    return true;
}

static bool is_finished(void *what)
{
    struct future_object *self = what;
    return (atomic_load_explicit(&self->word, memory_order_relaxed) & FUTURE_STATE) == FUTURE_FINISHED;
}

bool future_watch(PyObject *op)
{
    struct future_object *self = as_future(op);
    struct tl_self *me = tl_self();
    bool found;
    if (me == NULL)
        return false;
    Py_BEGIN_ALLOW_THREADS
    core_asleep(me, true);
    found = tl_spin(me, is_finished, self);
    if (found)
        core_await_turn(atomic_load_explicit(&self->finisher, memory_order_relaxed));
    core_asleep(me, false);
    Py_END_ALLOW_THREADS
    /* SYNC POINT: future (acquire) */
    return found && (atomic_load_explicit(&self->word, memory_order_acquire) & FUTURE_STATE) == FUTURE_FINISHED &&
           (self->exception == NULL || self->exception == Py_None);
}

static PyObject *future_result(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct future_object *self = as_future(op);
    /* SYNC POINT: future (acquire) */
    uint32_t word = atomic_load_explicit(&self->word, memory_order_acquire);
    PyObject *method, *value;
    if ((word & FUTURE_STATE) == FUTURE_FINISHED && (self->exception == NULL || self->exception == Py_None) &&
        (nargs == 0 || (nargs == 1 && kwnames == NULL)))
        return Py_NewRef(self->result == NULL ? Py_None : self->result);
    method = PyObject_GetAttrString(op, "_wait_result");
    if (method == NULL)
        return NULL;
    value = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return value;
}

/* future_made(cls, driver, call, options) -> a pending future of that class, attached to its new task. */
static PyObject *future_made(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *state = PyModule_GetState(module);
    PyTypeObject *type;
    PyObject *op, *task, *fields[4];
    if (nargs != 4 || !PyType_Check(args[0]) || !PyType_IsSubtype((PyTypeObject *)args[0], state->future_type)) {
        PyErr_SetString(PyExc_TypeError, "future_made(cls, driver, call, options)");
        return NULL;
    }
    type = (PyTypeObject *)args[0];
    op = type->tp_alloc(type, 0);
    if (op == NULL)
        return NULL;
    as_future(op)->driver = Py_NewRef(args[1]);
    fields[0] = args[2];
    fields[1] = op;
    fields[2] = Py_None;
    fields[3] = args[3];
    task = PyObject_Vectorcall((PyObject *)state->task_type, fields, 4, NULL);
    if (task == NULL) {
        Py_DECREF(op);
        return NULL;
    }
    atomic_store(&as_future(op)->task, task);
    return op;
}

/* The exception that is set, as an object.  New reference. */
void core_settle_one(struct core_state *state, PyObject *task, int kind, PyObject *data)
{
    PyObject *value = NULL, *arguments, *done;
    if (core_is_task(state, task) && kind == KIND_PART) {
        PyObject *sink = ((struct task_object *)task)->sink;
        if (sink != NULL && PyObject_TypeCheck(sink, state->slot_type)) {
            Py_INCREF(sink);
            inbox_deliver_part(state, (struct slot_object *)sink, data);
            Py_DECREF(sink);
            return;
        }
    }
    if (core_is_task(state, task) && (kind == KIND_RETURNED || kind == KIND_RETURNED_PACKED)) {
        PyObject *sink = ((struct task_object *)task)->sink;
        if (sink != NULL && PyObject_TypeCheck(sink, state->slot_type)) {
            Py_INCREF(sink);
            inbox_deliver((struct slot_object *)sink, kind, data);
            Py_DECREF(sink);
            return;
        }
        if (sink != NULL && (PyObject *)Py_TYPE(sink) == state->future_class &&
            atomic_load_explicit(&as_future(sink)->word, memory_order_relaxed) == FUTURE_PENDING) {
            bool finished;
            Py_INCREF(sink);
            value = kind == KIND_RETURNED ? Py_NewRef(data) : core_payload_loads(state, data);
            finished = value != NULL && finish(sink, value);
            if (finished)
                change_task(sink, NULL);
            Py_DECREF(sink);
            if (finished) {
                Py_DECREF(value);
                return;
            }
            if (value == NULL) {
                value = core_raised();
                kind = KIND_UNLOADABLE;
            } else {
                kind = KIND_RETURNED;
            }
            data = value;
        }
    }
    arguments = Py_BuildValue("(OiO)", task, kind, data);
    done = arguments == NULL || state->deliver == NULL ? NULL : PyObject_CallObject(state->deliver, arguments);
    Py_XDECREF(arguments);
    Py_XDECREF(value);
    if (done == NULL)
        PyErr_WriteUnraisable(task);
    else
        Py_DECREF(done);
}

/* -- the type ------------------------------------------------------------------------------------------------------------ */

static PyMemberDef future_members[] = {
    {"_result", T_OBJECT, offsetof(struct future_object, result), 0, NULL},
    {"_exception", T_OBJECT, offsetof(struct future_object, exception), 0, NULL},
    {"_driver", T_OBJECT, offsetof(struct future_object, driver), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef future_getset[] = {
    {"_state", get_state, set_state, NULL, NULL},
    {"_condition", get_condition, set_condition, NULL, NULL},
    {"_waiters", get_waiters, set_waiters, NULL, NULL},
    {"_done_callbacks", get_callbacks, set_callbacks, NULL, NULL},
    {"_unread", get_unread, NULL, "Does it hold a failure that nobody has looked at?", NULL},
    {"_task", get_task, set_task, "The task that it stands for, until that has ended; then None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(result_doc,
"result($self, /, timeout=None)\n--\n\n"
"The value that the call returned; waits for it at most `timeout` seconds.\n\n"
"Raises what the call raised, `CancelledError` if it was cancelled, `TimeoutError` if it is not done in time.");

static PyMethodDef future_methods[] = {
    {"result", FAST(future_result), METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"_succeed", future_succeed, METH_O,
     "_succeed($self, value, /)\n--\n\nFinish it with a value if nobody can be waiting; else False."},
    {"_fail", future_fail, METH_O,
     "_fail($self, exception, /)\n--\n\nFinish it with a failure, unread, if nobody can be waiting; else False."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(future_doc, "The hot part of a future; the rest is in treadle.pool.future.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},   {Py_tp_new, future_new},         {Py_tp_init, future_init},
    {Py_tp_traverse, future_traverse}, {Py_tp_clear, future_clear},     {Py_tp_dealloc, future_dealloc},
    {Py_tp_members, future_members},   {Py_tp_getset, future_getset},   {Py_tp_methods, future_methods},
    {Py_tp_finalize, future_finalize}, {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "treadle._native._core.FutureCore",
    .basicsize = sizeof(struct future_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = future_slots,
};

static PyMethodDef functions[] = {
    {"future_made", FAST(future_made), METH_FASTCALL,
     "future_made(cls, driver, call, options, /)\n--\n\nA pending future of that class, attached to its new task."},
    {NULL, NULL, 0, NULL},
};

int core_add_future(PyObject *module, struct core_state *state)
{
    size_t i;
    for (i = 0; i < STATES; i++) {
        state->future_states[i] = PyUnicode_InternFromString(state_names[i]);
        if (state->future_states[i] == NULL)
            return -1;
    }
    state->future_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &future_spec, NULL);
    if (state->future_type == NULL || PyModule_AddType(module, state->future_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
