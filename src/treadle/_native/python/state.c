/* The module's state: the hooks that the layers above put in, and what the garbage collector sees of it. */
#include "python/state.h"

#include <errno.h>
#include <string.h>

struct core_state *core_state_of(PyObject *self)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &core_module);
    return (struct core_state *)PyModule_GetState(module);
}

PyObject *core_failed(int error)
{
    if (error == ENOMEM)
        return PyErr_NoMemory();
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *core_no_record(void)
{
    if (errno != EAGAIN)
        return core_failed(errno);
    PyErr_SetString(PyExc_RuntimeError, "too many threads wait at once, or waits nest too deep in signal handlers");
    return NULL;
}

PyObject *core_raised(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

static const struct { const char *name; size_t offset; } hooks[] = {
    {"on_cycle", offsetof(struct core_state, on_cycle)},
    {"on_orphan", offsetof(struct core_state, on_orphan)},
    {"order_before", offsetof(struct core_state, order_before)},
    {"order_after", offsetof(struct core_state, order_after)},
    {"order_released", offsetof(struct core_state, order_released)},
    {"on_idle", offsetof(struct core_state, on_idle)},
    {"on_recovery", offsetof(struct core_state, on_recovery)},
    {"on_reduce", offsetof(struct core_state, on_reduce)},
    {"on_repr", offsetof(struct core_state, on_repr)},
    {"gone", offsetof(struct core_state, gone)},
    {"interrupted", offsetof(struct core_state, interrupted)},
    {"surface", offsetof(struct core_state, surface)},
    {"empty", offsetof(struct core_state, empty)},
    {"full", offsetof(struct core_state, full)},
    {"shutdown", offsetof(struct core_state, shutdown)},
    {"pack", offsetof(struct core_state, pack)},
    {"pack_apart", offsetof(struct core_state, pack_apart)},
    {"unpack", offsetof(struct core_state, unpack)},
    {"deliver", offsetof(struct core_state, deliver)},
    {"unread", offsetof(struct core_state, unread)},
    {"default_options", offsetof(struct core_state, default_options)},
    {"home", offsetof(struct core_state, home)},
    {"threads", offsetof(struct core_state, threads)},
    {"future_class", offsetof(struct core_state, future_class)},
    {"dumps", offsetof(struct core_state, dumps)},
    {"loads", offsetof(struct core_state, loads)},
};
#define HOOKS (sizeof hooks / sizeof hooks[0])

static PyObject **hook_at(struct core_state *state, size_t i)
{
    return (PyObject **)((char *)state + hooks[i].offset);
}

/* hook(name, object): once each, at import; later calls are for tests. */
static PyObject *hook(PyObject *module, PyObject *args)
{
    struct core_state *state = PyModule_GetState(module);
    const char *name;
    PyObject *value, *old;
    size_t i;
    if (!PyArg_ParseTuple(args, "sO:hook", &name, &value))
        return NULL;
    for (i = 0; i < HOOKS; i++)
        if (strcmp(name, hooks[i].name) == 0) {
            old = *hook_at(state, i);
            *hook_at(state, i) = Py_NewRef(value);
            Py_XDECREF(old);
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_KeyError, "no hook %s", name);
    return NULL;
}

PyMethodDef core_state_functions[] = {
    {"hook", hook, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* The types and texts that the state owns; future_states and the hooks come besides. */
#define EACH_OWNED(DO) DO(lock_type) DO(rlock_type) DO(condition_type) DO(semaphore_type) DO(event_type) \
    DO(queue_type) DO(shared_type) DO(shared_lock_type) DO(shared_rlock_type) DO(shared_queue_type) DO(segment_type) \
    DO(loan_type) DO(lane_type) DO(port_type) DO(store_type) DO(parcel_type) DO(call_type) DO(task_type) \
    DO(future_type) DO(worker_type) DO(brain_type) DO(slot_type) DO(inbox_type) DO(odd_type) DO(singles_type) \
    DO(known_type) DO(desk_type) DO(pack_type) DO(seat_type) DO(text_popleft) DO(text_locked) DO(text_append) \
    DO(text_appendleft) DO(text_extend)

int core_state_traverse(struct core_state *state, visitproc visit, void *arg)
{
    size_t i;
#define VISIT(field) Py_VISIT(state->field);
    EACH_OWNED(VISIT)
#undef VISIT
    for (i = 0; i < 5; i++)
        Py_VISIT(state->future_states[i]);
    for (i = 0; i < HOOKS; i++)
        Py_VISIT(*hook_at(state, i));
    return 0;
}

int core_state_clear(struct core_state *state)
{
    size_t i;
#define CLEAR(field) Py_CLEAR(state->field);
    EACH_OWNED(CLEAR)
#undef CLEAR
    for (i = 0; i < 5; i++)
        Py_CLEAR(state->future_states[i]);
    for (i = 0; i < HOOKS; i++)
        Py_CLEAR(*hook_at(state, i));
    return 0;
}
