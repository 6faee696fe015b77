/* The module: its state, its types, and the hooks that the layers above put in. */
#include "python/core.h"

#include <errno.h>
#include <string.h>

struct core_state *core_state_of(PyObject *self)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &core_module);
    return (struct core_state *)PyModule_GetState(module);
}

PyObject *core_no_record(void)
{
    if (errno == ENOMEM)
        return PyErr_NoMemory();
    if (errno == EAGAIN)
        PyErr_SetString(PyExc_RuntimeError, "too many threads wait at once, or waits nest too deep in signal handlers");
    else
        PyErr_SetFromErrno(PyExc_OSError);
    return NULL;
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

static PyMethodDef own_methods[] = {
    {"hook", hook, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int core_exec(PyObject *module)
{
    struct core_state *state = PyModule_GetState(module);
    int error;
#ifdef Py_GIL_DISABLED
    bool spins = true;
#else
    bool spins = false;
#endif
    error = tl_self_setup(spins);
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (PyModule_AddFunctions(module, core_board_methods) < 0 ||
        PyModule_AddFunctions(module, core_queue_functions) < 0 ||
        PyModule_AddFunctions(module, core_process_functions) < 0 ||
        PyModule_AddFunctions(module, core_order_functions) < 0 ||
        PyModule_AddFunctions(module, core_trace_functions) < 0 || core_add_lock(module, state) < 0 ||
        core_add_rlock(module, state) < 0 || core_add_condition(module, state) < 0 ||
        core_add_semaphore(module, state) < 0 || core_add_event(module, state) < 0 ||
        core_add_queue(module, state) < 0 || core_add_shared(module, state) < 0 ||
        core_add_shared_queue(module, state) < 0 ||
        core_add_segment(module, state) < 0 || core_add_loan(module, state) < 0 ||
        core_add_lane(module, state) < 0 || core_add_port(module, state) < 0 ||
        core_add_store(module, state) < 0 ||
        PyModule_AddFunctions(module, core_payload_functions) < 0 || core_add_task(module, state) < 0 ||
        core_add_future(module, state) < 0 || core_add_dispatch(module, state) < 0 || core_add_seat(module, state) < 0 ||
        core_add_inbox(module, state) < 0 || core_add_run(module, state) < 0 ||
        core_add_singles(module, state) < 0 || core_add_pack(module, state) < 0 || core_add_known(module, state) < 0 ||
        core_add_desk(module, state) < 0 || core_add_reader(module, state) < 0 || core_add_rendering(module) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "LOCK_SIZE", (long)sizeof(struct lock_object));
}

static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct core_state *state = PyModule_GetState(module);
    size_t i;
    Py_VISIT(state->lock_type);
    Py_VISIT(state->rlock_type);
    Py_VISIT(state->condition_type);
    Py_VISIT(state->semaphore_type);
    Py_VISIT(state->event_type);
    Py_VISIT(state->queue_type);
    Py_VISIT(state->shared_type);
    Py_VISIT(state->shared_lock_type);
    Py_VISIT(state->shared_rlock_type);
    Py_VISIT(state->shared_queue_type);
    Py_VISIT(state->segment_type);
    Py_VISIT(state->loan_type);
    Py_VISIT(state->lane_type);
    Py_VISIT(state->seat_type);
    Py_VISIT(state->port_type);
    Py_VISIT(state->store_type);
    Py_VISIT(state->parcel_type);
    Py_VISIT(state->call_type);
    Py_VISIT(state->task_type);
    Py_VISIT(state->future_type);
    Py_VISIT(state->worker_type);
    Py_VISIT(state->brain_type);
    Py_VISIT(state->slot_type);
    Py_VISIT(state->inbox_type);
    Py_VISIT(state->odd_type);
    Py_VISIT(state->singles_type);
    Py_VISIT(state->known_type);
    Py_VISIT(state->desk_type);
    Py_VISIT(state->pack_type);
    Py_VISIT(state->text_popleft);
    Py_VISIT(state->text_locked);
    Py_VISIT(state->text_append);
    Py_VISIT(state->text_appendleft);
    Py_VISIT(state->text_extend);
    for (i = 0; i < 5; i++)
        Py_VISIT(state->future_states[i]);
    for (i = 0; i < HOOKS; i++)
        Py_VISIT(*hook_at(state, i));
    return 0;
}

static int core_clear(PyObject *module)
{
    struct core_state *state = PyModule_GetState(module);
    size_t i;
    Py_CLEAR(state->lock_type);
    Py_CLEAR(state->rlock_type);
    Py_CLEAR(state->condition_type);
    Py_CLEAR(state->semaphore_type);
    Py_CLEAR(state->event_type);
    Py_CLEAR(state->queue_type);
    Py_CLEAR(state->shared_type);
    Py_CLEAR(state->shared_lock_type);
    Py_CLEAR(state->shared_rlock_type);
    Py_CLEAR(state->shared_queue_type);
    Py_CLEAR(state->segment_type);
    Py_CLEAR(state->loan_type);
    Py_CLEAR(state->lane_type);
    Py_CLEAR(state->seat_type);
    Py_CLEAR(state->port_type);
    Py_CLEAR(state->store_type);
    Py_CLEAR(state->parcel_type);
    Py_CLEAR(state->call_type);
    Py_CLEAR(state->task_type);
    Py_CLEAR(state->future_type);
    Py_CLEAR(state->worker_type);
    Py_CLEAR(state->brain_type);
    Py_CLEAR(state->slot_type);
    Py_CLEAR(state->inbox_type);
    Py_CLEAR(state->odd_type);
    Py_CLEAR(state->singles_type);
    Py_CLEAR(state->known_type);
    Py_CLEAR(state->desk_type);
    Py_CLEAR(state->pack_type);
    Py_CLEAR(state->text_popleft);
    Py_CLEAR(state->text_locked);
    Py_CLEAR(state->text_append);
    Py_CLEAR(state->text_appendleft);
    Py_CLEAR(state->text_extend);
    for (i = 0; i < 5; i++)
        Py_CLEAR(state->future_states[i]);
    for (i = 0; i < HOOKS; i++)
        Py_CLEAR(*hook_at(state, i));
    return 0;
}

static void core_free(void *module)
{
    core_clear((PyObject *)module);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "treadle._native._core",
    .m_doc = "The native core: see README.md beside its sources.",
    .m_size = sizeof(struct core_state),
    .m_methods = own_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
